"""A retraining on record: what was asked by whom, its data set, the champion it wants to replace, how it ended."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import ConfigurationError, UnknownRecordError
from bloodcell.registry.recipes import check_variant
from bloodcell.registry.registered_models import champion, serving_models
from bloodcell.retraining.snapshot import take_snapshot
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run

if TYPE_CHECKING:
    from bloodcell.retraining.snapshot import Snapshot
    from bloodcell.settings import Settings

Base = Literal["champion", "imagenet", "random"]

_LEAST_TRAINING: Final = 2
"""Images of each group to train on: with fewer, the SVM's cross-validation has nothing to fold."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a retraining is asked to do.

    Attributes:
        requested_by: Who asks.
        reason: Why, for whoever reads it years later.
        variants: Variants to train, of `bloodcell.cells.variants.VARIANTS`; none: those that serve now.
        base: Weights to begin with: `imagenet`, or `champion` to go on from the serving model of each variant;
            `random`, with small recipes, for demonstrations only.
        seed: Of everything random.
        epochs: Most epochs of each stage of a fine-tuning; None leaves it to the recipe.
        min_new_labels: Newly labelled cells without which it is skipped.
    """

    requested_by: str
    reason: str
    variants: tuple[str, ...]
    base: Base = "imagenet"
    seed: int = 0
    epochs: int | None = None
    min_new_labels: int = 1


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A retraining as the database has it; `champion_id` was champion when it began."""

    training_run_id: uuid.UUID
    airflow_run: str | None
    requested_by: str
    reason: str
    variants: tuple[str, ...]
    base: Base
    seed: int
    epochs: int | None
    min_new_labels: int
    champion_id: str | None
    dataset_digest: str | None
    state: str
    state_reason: str | None
    approval: dict[str, Any] | None
    requested_at: datetime
    ended_at: datetime | None

    @property
    def dataset(self) -> str:
        """Digest of the data set.

        Raises:
            ConfigurationError: It was skipped, and has none.
        """
        if self.dataset_digest is None:
            raise ConfigurationError(
                f"Retraining {self.training_run_id} has no data set: it is {self.state} ({self.state_reason})."
            )
        return self.dataset_digest


def begin_training_run(
    settings: Settings, request: Request, training_run_id: uuid.UUID, *, airflow_run: str | None = None
) -> TrainingRun:
    """Takes the snapshot of a retraining and returns its record; the same id again returns what is there.

    With too few new labels, or a group without images to train on, its state is `skipped`, with the reason.

    Raises:
        ConfigurationError: An unknown variant, no reason, or no model to go on from.
    """
    _check(request)
    database = open_database(settings)

    with recorded_run(database, "snapshot", airflow_run=airflow_run) as run:

        def begin(connection: sa.Connection) -> TrainingRun:
            variants = _variants(connection, request)
            row = asdict(request) | {"variants": list(variants), "airflow_run": airflow_run}
            new = connection.execute(
                insert(tables.training_run)
                .values(training_run_id=training_run_id, champion_id=champion(connection), **row)
                .on_conflict_do_nothing()
            )
            if new.rowcount:
                update(connection, training_run_id, **_taken(connection, settings, request, run.run_id))
            return read_training_run(connection, training_run_id)

        begun = database.transact(begin)
        run.detail = {"training_run_id": str(training_run_id), "state": begun.state, "dataset": begun.dataset_digest}
    return begun


def read_training_run(connection: sa.Connection, training_run_id: uuid.UUID) -> TrainingRun:
    """Returns a retraining.

    Raises:
        UnknownRecordError: There is none with this id.
    """
    found = connection.execute(
        sa.select(tables.training_run).where(tables.training_run.c.training_run_id == training_run_id)
    ).one_or_none()
    if found is None:
        raise UnknownRecordError(f"No retraining {training_run_id}. They are in the view bloodcell.retraining.")
    return TrainingRun(**{**found._mapping, "variants": tuple(found.variants)})


def update(connection: sa.Connection, training_run_id: uuid.UUID, **changes: object) -> None:
    """Changes a retraining that is still running."""
    table = tables.training_run
    connection.execute(
        sa.update(table).where(table.c.training_run_id == training_run_id, table.c.state == "running").values(**changes)
    )


def too_little(snapshot: Snapshot) -> str | None:
    """Returns why a data set cannot make a model, None where it can."""
    if missing := snapshot.missing_classes("training", _LEAST_TRAINING):
        return f"Too few images to train on, {_LEAST_TRAINING} a class are needed: {', '.join(missing)}."
    if missing := snapshot.missing_classes("validation", 1):
        return f"No image to validate with of: {', '.join(missing)}. More labelled patients are needed."
    return None


def _check(request: Request) -> None:
    for variant in request.variants:
        check_variant(variant)
    if not request.reason.strip() or not request.requested_by.strip():
        raise ConfigurationError("A retraining needs a reason, and who asks for it: they are kept for good.")


def _variants(connection: sa.Connection, request: Request) -> tuple[str, ...]:
    if request.variants and request.base != "champion":
        return tuple(dict.fromkeys(request.variants))
    serving = [model.variant for model in serving_models(connection)]
    if missing := sorted(set(request.variants) - set(serving)):
        raise ConfigurationError(
            f"There is no model of {', '.join(missing)} to go on from (base champion): serving are "
            f"{', '.join(serving)}. Train those with base imagenet."
        )
    return tuple(dict.fromkeys(request.variants or serving))


def _new_labels(connection: sa.Connection) -> int:
    """Returns the cells labelled, or labelled again, since the last retraining that did not fail."""
    return int(
        connection.scalar(
            sa.text(
                "SELECT count(DISTINCT cell_id) FROM bloodcell.label WHERE label_id > coalesce((SELECT "
                "max(d.until_label_id) FROM bloodcell.dataset d JOIN bloodcell.training_run t USING (dataset_digest) "
                "WHERE t.state <> 'failed'), 0)"
            )
        )
        or 0
    )


def _taken(connection: sa.Connection, settings: Settings, request: Request, run_id: uuid.UUID) -> dict[str, object]:
    """Takes the snapshot where there are new labels enough, and returns what it changes: the data set, or the skip."""
    skipped = _too_few(_new_labels(connection), request.min_new_labels)
    if skipped is None:
        snapshot = take_snapshot(connection, settings, run_id)
        skipped = too_little(snapshot)
        if skipped is None:
            return {"dataset_digest": snapshot.dataset_digest}
    return {"state": "skipped", "state_reason": skipped, "ended_at": sa.func.now()}


def _too_few(n_new: int, min_new_labels: int) -> str | None:
    if n_new >= min_new_labels:
        return None
    return f"{n_new:,} newly labelled cells, {min_new_labels:,} are needed (min_new_labels)."
