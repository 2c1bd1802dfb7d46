"""The record of a retraining: who requested what, its data set, the champion it is compared with, how it ended."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import ConfigurationError, UnknownRecordError
from bloodcell.registry.recipes import check_variant
from bloodcell.registry.registered_models import champion, serving_models
from bloodcell.retraining.approval import Approval, is_unanswered
from bloodcell.retraining.snapshot import take_snapshot
from bloodcell.retraining.states import Step, TrainingState, change_state
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from bloodcell.settings import Settings

_SQL: Final = load_statements("retraining/training_runs.sql")

Base = Literal["champion", "imagenet", "site"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a retraining is requested to do.

    Attributes:
        requested_by: Who requests it, in their own words.
        reason: Why, for anyone who reads it years later.
        variants: Variants to train, of `bloodcell.cells.variants.VARIANTS`; empty: those that serve now.
        base: Where training begins: `imagenet`; `champion` for a warm start from the serving model of each variant; or
            `site` to keep the serving model's network and to fit its last layers to the labels, of which few suffice.
        seed: Seed of everything random.
        epochs: Maximum number of epochs of each fine-tuning stage; None: as the recipe says.
        min_new_labels: Newly labelled cells that are needed; with fewer, the retraining is skipped.
        triggered_by: Login that Airflow authenticated when the run was triggered; None for a scheduled run.
    """

    requested_by: str
    reason: str
    variants: tuple[str, ...]
    base: Base = "imagenet"
    seed: int = 0
    epochs: int | None = None
    min_new_labels: int = 1
    triggered_by: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A retraining as the database has it.

    Attributes:
        training_run_id: Its id.
        airflow_run: Id of its Dag run.
        requested_by: The person who requested it.
        reason: Why it was requested.
        variants: Variants to train.
        base: Where training begins.
        seed: Random seed.
        epochs: Maximum number of epochs of each fine-tuning stage; None: as the recipe says.
        min_new_labels: Newly labelled cells that are needed; with fewer, it is skipped.
        champion_id: The champion when it began.
        dataset_digest: Digest of its data set; None if it was skipped.
        state: Its state.
        state_reason: Why it is in that state.
        approval: A person's answer; None if there is none.
        requested_at: When it began.
        ended_at: When it ended; None if it has not.
        triggered_by: Login that triggered it in Airflow; None for a scheduled run.
    """

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
    state: TrainingState
    state_reason: str | None
    approval: Approval | None
    requested_at: datetime
    ended_at: datetime | None
    triggered_by: str | None

    @property
    def dataset(self) -> str:
        """Digest of the data set.

        Raises:
            ConfigurationError: The retraining was skipped and has none.
        """
        if self.dataset_digest is None:
            raise ConfigurationError(
                f"Retraining {self.training_run_id} has no data set: it is {self.state} ({self.state_reason})."
            )
        return self.dataset_digest


def begin_training_run(
    settings: Settings, request: Request, training_run_id: uuid.UUID, *, airflow_run: str | None = None
) -> TrainingRun:
    """Takes the snapshot of a retraining and returns its record; a repeated call returns the same record.

    With too few new labels, or a class without images to train on, its state is `skipped`, with the reason.

    Args:
        settings: Where everything is kept.
        request: What the retraining is to do.
        training_run_id: Id of the retraining, chosen by the caller.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        ConfigurationError: A variant does not exist, the reason or the person is missing, or a variant has no serving
            model to start from.
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
                _take_data_set(connection, settings, request, training_run_id, run.run_id)
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
        raise UnknownRecordError(
            f"There is no retraining {training_run_id}. Next: see the view bloodcell.retraining, which lists them all"
        )
    columns = dict(found._mapping)
    return TrainingRun(
        **columns
        | {
            "variants": tuple(found.variants),
            "state": TrainingState(found.state),
            "approval": Approval(**found.approval) if found.approval else None,
        }
    )


def training_run_of(settings: Settings, airflow_run: str) -> TrainingRun | None:
    """Returns the retraining of a run of the Dag `retrain`; None if the run has not begun one.

    Args:
        settings: Where the database is.
        airflow_run: Id of the Dag run.
    """

    def read(connection: sa.Connection) -> TrainingRun | None:
        training_run_id = connection.scalar(_SQL["of_airflow_run"], {"airflow_run": airflow_run})
        return None if training_run_id is None else read_training_run(connection, training_run_id)

    return open_database(settings).transact(read)


def end_training_run(
    settings: Settings, training_run_id: uuid.UUID, *, failed: str | None, unanswered: bool
) -> TrainingState:
    """Records how a retraining ended, unless that is already recorded; returns its state.

    Args:
        settings: Where the database is.
        training_run_id: The retraining.
        failed: What failed, None if nothing did.
        unanswered: Whether the task that asks a person failed.
    """

    def end(connection: sa.Connection) -> TrainingState:
        if unanswered and is_unanswered(connection, training_run_id, settings.approval_timeout_h):
            state = TrainingState.EXPIRED
            reason = f"Nobody answered within {settings.approval_timeout_h:g} h; the champion stays."
        else:
            state = TrainingState.FAILED
            reason = failed or "It ended without a promotion."
        change_state(connection, training_run_id, state, step=Step.CLOSE, reason=reason)
        return read_training_run(connection, training_run_id).state

    return open_database(settings).transact(end)


def _check(request: Request) -> None:
    for variant in request.variants:
        check_variant(variant)
    if not request.reason.strip() or not request.requested_by.strip():
        raise ConfigurationError(
            "A retraining needs a reason and the name of the person who requests it; both are kept for good."
        )


def _variants(connection: sa.Connection, request: Request) -> tuple[str, ...]:
    if request.variants and request.base == "imagenet":
        return tuple(dict.fromkeys(request.variants))
    serving = [model.variant for model in serving_models(connection)]
    if missing := sorted(set(request.variants) - set(serving)):
        raise ConfigurationError(
            f"There is no model of {', '.join(missing)} to start from (base {request.base}). The serving variants "
            f"are {', '.join(serving)}. Next: train these variants with base imagenet."
        )
    return tuple(dict.fromkeys(request.variants or serving))


def _take_data_set(
    connection: sa.Connection, settings: Settings, request: Request, training_run_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    """Takes the snapshot and records it for the retraining, or skips the retraining with the reason."""
    n_new: int = connection.scalar(_SQL["new_labels"], {"failed": TrainingState.FAILED}) or 0
    lacking = _too_few_new_labels(n_new, request.min_new_labels)
    if lacking is None:
        snapshot = take_snapshot(connection, settings, run_id)
        lacking = snapshot.shortage_for_site if request.base == "site" else snapshot.shortage
        if lacking is None:
            table = tables.training_run
            connection.execute(
                sa.update(table)
                .where(table.c.training_run_id == training_run_id)
                .values(dataset_digest=snapshot.dataset_digest)
            )
            return
    change_state(connection, training_run_id, TrainingState.SKIPPED, step=Step.SNAPSHOT, reason=lacking)


def _too_few_new_labels(n_new: int, min_new_labels: int) -> str | None:
    if n_new >= min_new_labels:
        return None
    return f"{n_new:,} newly labelled cells, {min_new_labels:,} are needed (min_new_labels)."
