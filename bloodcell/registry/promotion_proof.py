"""What a model must prove: the gates of its validation, and the rule that decides whether it may become champion.

The rule is the same for the candidate of a retraining and for a promotion by hand. A trigger of the database
(`require_passed_gates`) refuses a model that failed a gate even in plain SQL.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.errors import PromotionRefusedError
from bloodcell.storage import tables

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from bloodcell.registry.registered_models import RegisteredModel

GATES: Final = (
    "enough_holdout_cells",
    "enough_holdout_patients",
    "not_worse_overall",
    "no_class_worse",
    "no_class_less_precise",
    "no_class_more_unclassified",
    "not_more_unclassified",
    "out_of_scope_held_back",
    "calibrated",
    "not_worse_than_anchor",
)
"""Every gate, in the order in which `bloodcell.retraining.gates` judges them."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition that a candidate had to meet, with the result.

    Attributes:
        gate: Its name, one of `GATES`.
        passed: Whether the condition is met.
        measured: The figure that was measured; None if it could not be measured.
        threshold: The figure that `measured` was compared with; None if there is none.
        reason: One sentence with the figures, for a log, a row and a page.
    """

    gate: str
    passed: bool
    measured: float | None
    threshold: float | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Returns the gate as the database stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Gate:
        """Returns a gate from the database; rows of release 0.1 have `limit` instead of `threshold`."""
        threshold = stored.get("threshold", stored.get("limit"))
        return cls(stored["gate"], stored["passed"], stored.get("measured"), threshold, stored["reason"])


@dataclass(frozen=True, slots=True)
class StoredValidation:
    """A model's validation as the database stores it; `champion_id` is the champion that it was compared with."""

    validation_id: uuid.UUID
    model_id: str
    champion_id: str | None
    dataset_digest: str
    passed: bool
    gates: tuple[Gate, ...]
    report: str


def all_passed(gates: Sequence[Gate]) -> bool:
    """Returns whether there are gates and every one of them passed."""
    return bool(gates) and all(gate.passed for gate in gates)


def refusal(gates: Sequence[Gate]) -> str:
    """Returns the reasons of the gates that failed, one sentence after the other; empty if none failed."""
    return " ".join(gate.reason for gate in gates if not gate.passed)


def newest_validation(connection: sa.Connection, model_id: str) -> StoredValidation | None:
    """Returns a model's newest validation; None if it was never validated."""
    table = tables.validation
    newest_first = (table.c.validated_at.desc(), table.c.validation_id)
    return _read(connection, sa.select(table).where(table.c.model_id == model_id).order_by(*newest_first).limit(1))


def validation_of(connection: sa.Connection, training_run_id: uuid.UUID, model_id: str) -> StoredValidation | None:
    """Returns the validation of a retraining's candidate; None if there is none."""
    table = tables.validation
    is_of_run = table.c.training_run_id == training_run_id
    return _read(connection, sa.select(table).where(is_of_run, table.c.model_id == model_id))


def require_gates(validation: StoredValidation, *, was_champion: bool = False) -> None:
    """Refuses a model that failed a gate, or that an earlier release judged by fewer gates.

    Args:
        validation: The model's validation.
        was_champion: Whether the model has been champion; it then needs only the gates that it was judged by.

    Raises:
        PromotionRefusedError: A gate failed or is missing; the message gives the reasons.
    """
    reasons = refusal(validation.gates)
    if reasons or not validation.passed:
        raise PromotionRefusedError(f"Model {validation.model_id[:12]} is refused by its gates: {reasons}")
    judged = {gate.gate for gate in validation.gates}
    if not was_champion and (missing := [name for name in GATES if name not in judged]):
        raise PromotionRefusedError(
            f"Model {validation.model_id[:12]} was validated by an earlier release, without the gates "
            f"{', '.join(missing)}. Next: bloodcell models validate {validation.model_id[:12]}"
        )


def require_proof(connection: sa.Connection, model: RegisteredModel, champion_id: str | None) -> None:
    """Refuses a model that has not proved itself.

    A model must have passed all gates of its newest validation, in a comparison with the present champion, unless it
    was champion before, and the lockbox must not have contradicted them. A model that was never validated is accepted
    only if there is no champion yet, or no hold-out to validate it on, and not if its calibration for a laboratory said
    that it must not be used.

    Args:
        connection: Where to read.
        model: The model that is to become champion.
        champion_id: The present champion.

    Raises:
        PromotionRefusedError: It has not proved itself; the message says why.
    """
    validation = newest_validation(connection, model.model_id)
    if validation is not None:
        require_gates(validation, was_champion=model.n_promotions > 0)
        table = tables.lockbox_opening
        contradicted = sa.select(table.c.reason).where(
            table.c.model_id == model.model_id,
            table.c.dataset_digest == validation.dataset_digest,
            ~table.c.passed,
        )
        if reasons := connection.scalars(contradicted).all():
            raise PromotionRefusedError(f"Model {model.model_id[:12]} is refused by the lockbox: {' '.join(reasons)}")
    if model.n_promotions:
        return
    if validation is not None and validation.champion_id != champion_id:
        raise PromotionRefusedError(
            f"Model {model.model_id[:12]} was compared with {(validation.champion_id or 'no champion')[:12]}, but "
            f"{(champion_id or 'none')[:12]} is champion now. Next: bloodcell models validate {model.model_id[:12]}"
        )
    site = model.manifest.get("site")
    if validation is None and site is not None and not site["may_be_used"]:
        raise PromotionRefusedError(
            f"Model {model.model_id[:12]} was calibrated for {site['name']}, with this verdict: "
            f"{' '.join(site['verdict'])} Next: bloodcell site calibrate with more labelled cells"
        )
    can_validate = connection.scalar(sa.select(sa.exists().where(tables.dataset.c.n_holdout > 0)))
    if validation is None and can_validate and champion_id is not None:
        raise PromotionRefusedError(
            f"Model {model.model_id[:12]} was never validated, although there is a hold-out of labelled cells. Next: "
            f"bloodcell models validate {model.model_id[:12]}"
        )


def _read(connection: sa.Connection, statement: sa.Select[Any]) -> StoredValidation | None:
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    return StoredValidation(
        row.validation_id,
        row.model_id,
        row.champion_id,
        row.dataset_digest,
        row.passed,
        tuple(Gate.from_json(gate) for gate in row.gates),
        row.report,
    )
