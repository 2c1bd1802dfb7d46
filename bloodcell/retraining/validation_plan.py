"""Which models a validation compares, on which data set, and who requested it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.registry.registered_models import champion, find_model, serving_models
from bloodcell.retraining.training_runs import read_training_run
from bloodcell.storage import tables

if TYPE_CHECKING:
    import uuid


@dataclass(frozen=True, slots=True)
class ValidationPlan:
    """What a validation compares.

    Attributes:
        dataset_digest: The data set whose hold-out the models are evaluated on.
        candidates: Model ids, each of which is judged.
        champion_id: The model that the candidates are compared with, None if there is none.
        anchor_id: The first champion that a person chose, where that is neither the champion nor a candidate.
        challengers: Model ids that are evaluated beside them.
        training_run_id: The retraining, None for a validation by hand.
        requested_by: Who requested it, in their own words.
        triggered_by: Login that triggered it in Airflow; None for a scheduled run and a validation by hand.
        reason: Why.
        base: Base weights of the candidates, empty for a validation by hand.
        seed: Seed of the candidates' training.
        epochs: Epochs that were requested; None: as the recipe says.
    """

    dataset_digest: str
    candidates: tuple[str, ...]
    champion_id: str | None
    anchor_id: str | None
    challengers: tuple[str, ...]
    training_run_id: uuid.UUID | None
    requested_by: str
    triggered_by: str | None
    reason: str
    base: str
    seed: int
    epochs: int | None

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Every model once: candidates, champion, anchor, challengers."""
        known = filter(None, (self.champion_id, self.anchor_id))
        return tuple(dict.fromkeys((*self.candidates, *known, *self.challengers)))


def plan_of_retraining(connection: sa.Connection, training_run_id: uuid.UUID) -> ValidationPlan:
    """Returns the plan for a retraining's candidates: a comparison with the champion at the time when it began.

    Raises:
        UnknownRecordError: There is no such retraining.
        ConfigurationError: It has no data set, or no candidates.
    """
    run = read_training_run(connection, training_run_id)
    table = tables.candidate
    candidates = connection.scalars(
        sa.select(table.c.model_id).where(table.c.training_run_id == training_run_id).order_by(table.c.variant)
    )
    plan = ValidationPlan(
        dataset_digest=run.dataset,
        candidates=tuple(candidates),
        champion_id=run.champion_id,
        anchor_id=_anchor(connection, run.champion_id),
        challengers=_challengers(connection),
        training_run_id=training_run_id,
        requested_by=run.requested_by,
        triggered_by=run.triggered_by,
        reason=run.reason,
        base=run.base,
        seed=run.seed,
        epochs=run.epochs,
    )
    if not plan.candidates:
        raise ConfigurationError(f"Retraining {training_run_id} has no candidate to validate: none was trained.")
    return plan


def plan_of_model(connection: sa.Connection, model: str, *, other: str | None = None, by: str = "") -> ValidationPlan:
    """Returns the plan for one model on the newest data set: a comparison with another model, or with the champion.

    Args:
        connection: Where to read.
        model: The model to judge, or its first characters.
        other: The model to compare it with, or its first characters. None: the champion, beside the challengers.
        by: Who requests it.

    Raises:
        UnknownRecordError: There is no such model.
        ConfigurationError: There is no data set yet, or the model would be compared with itself.
    """
    found = find_model(connection, model).model_id
    against = find_model(connection, other).model_id if other else champion(connection)
    dataset = tables.dataset.c
    newest_first = (dataset.created_at.desc(), dataset.dataset_digest)
    digest = connection.scalar(sa.select(dataset.dataset_digest).order_by(*newest_first).limit(1))
    if digest is None:
        raise ConfigurationError(
            "There is no data set to validate on yet; a retraining creates one. Next: bloodcell labels import, then "
            "bloodcell retrain --reason R"
        )
    if found == against:
        what = "would be compared with itself" if other else "is the champion, so there is no model to compare it with"
        raise ConfigurationError(f"Model {found[:12]} {what}. Next: bloodcell models list")
    return ValidationPlan(
        dataset_digest=digest,
        candidates=(found,),
        champion_id=against,
        anchor_id=None if other else _anchor(connection, against),
        challengers=() if other else _challengers(connection),
        training_run_id=None,
        requested_by=by,
        triggered_by=None,
        reason="validated by hand",
        base="",
        seed=0,
        epochs=None,
    )


def _anchor(connection: sa.Connection, champion_id: str | None) -> str | None:
    anchor: str | None = connection.scalar(sa.text("SELECT model_id FROM bloodcell.anchor_model"))
    return anchor if anchor != champion_id else None


def _challengers(connection: sa.Connection) -> tuple[str, ...]:
    if champion(connection) is None:
        return ()
    return tuple(model.model_id for model in serving_models(connection) if model.role == "challenger")
