"""An approved candidate becomes champion: nobody but a person who may decides, and the gates are looked at again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.errors import PromotionRefusedError
from bloodcell.registry.promotion import lock_promotions, promote
from bloodcell.retraining.training_runs import read_training_run, update
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from bloodcell.settings import Settings

APPROVE: Final = "Approve"
REJECT: Final = "Reject"


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's answer.

    Attributes:
        chosen: `Approve` or `Reject`.
        by: The person's login.
        at: When, ISO 8601.
        reason: Why, in their words.
    """

    chosen: str
    by: str
    at: str
    reason: str

    @classmethod
    def of_answer(cls, answer: Mapping[str, Any] | None) -> Approval | None:
        """Returns what Airflow's ApprovalOperator returned; None where it returned nothing, as when set by hand."""
        if not answer or not answer.get("chosen_options"):
            return None
        user = answer.get("responded_by_user") or {}
        return cls(
            chosen=str(answer["chosen_options"][0]),
            by=str(user.get("name") or user.get("id") or ""),
            at=str(answer.get("responded_at") or ""),
            reason=str((answer.get("params_input") or {}).get("reason") or ""),
        )


def promote_candidate(
    settings: Settings,
    training_run_id: uuid.UUID,
    model_id: str,
    approval: Approval | None,
    *,
    airflow_run: str | None = None,
) -> None:
    """Makes a retraining's candidate champion, with the answer and the evidence on record; again does nothing.

    Raises:
        PromotionRefusedError: No person's answer, one who may not, no reason, a gate that did not pass, or another
            champion since the retraining began: of two retrainings at once only one promotes.
        BundleError: Its bundle was altered after the approval.
    """
    database, store = open_database(settings), Store.of(settings)
    with recorded_run(database, "promote", airflow_run=airflow_run) as run:
        run.detail = {"training_run_id": str(training_run_id), "model_id": model_id}

        def work(connection: sa.Connection) -> None:
            lock_promotions(connection)
            retraining = read_training_run(connection, training_run_id)
            if retraining.state == "promoted":
                return
            answer = _accepted(approval, settings)
            judged = connection.execute(
                sa.select(tables.validation).where(
                    tables.validation.c.training_run_id == training_run_id, tables.validation.c.model_id == model_id
                )
            ).one_or_none()
            if judged is None:
                raise PromotionRefusedError(
                    f"Model {model_id[:12]} was not validated in retraining {training_run_id}; nothing was changed."
                )
            if failed := [gate["reason"] for gate in judged.gates if not gate["passed"]]:
                raise PromotionRefusedError(f"Model {model_id[:12]} is refused by its gates: {' '.join(failed)}")
            promote(
                connection,
                store,
                model_id,
                by=answer.by,
                reason=answer.reason,
                evidence={
                    "training_run_id": str(training_run_id),
                    "dataset_digest": judged.dataset_digest,
                    "validation_id": str(judged.validation_id),
                    "gates": judged.gates,
                    "approval": asdict(answer),
                    "report": judged.report,
                },
                replaces=retraining.champion_id,
            )
            changes = {"state": "promoted", "state_reason": f"model {model_id[:12]} is champion: {answer.reason}"}
            update(connection, training_run_id, approval=asdict(answer), ended_at=sa.func.now(), **changes)

        database.transact(work)


def end_training_run(
    settings: Settings, training_run_id: uuid.UUID, *, approval: Approval | None, failed: str | None, expired: bool
) -> str:
    """Puts on record how a retraining ended that is not ended yet; returns its state.

    Args:
        settings: Where the database is.
        training_run_id: Which.
        approval: The answer, where one was given.
        failed: What failed, None where nothing did.
        expired: Whether nobody answered in time.
    """
    changes: dict[str, object] = {"ended_at": sa.func.now()}
    if approval and approval.chosen == REJECT:
        changes |= {"state": "rejected", "approval": asdict(approval)}
        changes["state_reason"] = f"rejected by {approval.by}: {approval.reason or 'no reason given'}"
    elif expired:
        changes["state"] = "expired"
        changes["state_reason"] = f"Nobody answered within {settings.approval_timeout_h:g} h; the champion stays."
    else:
        changes |= {"state": "failed", "approval": asdict(approval) if approval else None}
        changes["state_reason"] = failed or "It ended without a promotion."

    def work(connection: sa.Connection) -> str:
        update(connection, training_run_id, **changes)
        return read_training_run(connection, training_run_id).state

    return open_database(settings).transact(work)


def _accepted(approval: Approval | None, settings: Settings) -> Approval:
    if approval is None:
        raise PromotionRefusedError(
            "There is no person's answer: the approval was not given, or its task was marked successful by hand. "
            "Trigger the retraining again, and answer it in Airflow (Required Actions) or by bloodcell approve."
        )
    if approval.chosen != APPROVE:
        raise PromotionRefusedError(f"The answer is {approval.chosen!r}, expected {APPROVE!r}; the champion stays.")
    if approval.by not in settings.approver_names:
        raise PromotionRefusedError(
            f"{approval.by or 'nobody'!r} may not approve a model. Expected one of BLOODCELL_APPROVERS: "
            f"{', '.join(settings.approver_names)}."
        )
    if not approval.reason.strip():
        raise PromotionRefusedError("The approval has no reason. It is kept for good: trigger again and give one.")
    return approval
