"""The question whether a candidate becomes champion, a person's answer, and the rules by which the answer counts.

The task that asks writes both to the database. It receives the answer from Airflow, with the login that Airflow
authenticated. Nothing else is believed: an XCom, a parameter, a note and the state of a task can be written by users
who may not approve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import PromotionRefusedError
from bloodcell.retraining.states import Step, TrainingState, change_state
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from bloodcell.settings import AirflowSettings, Settings

_SQL: Final = load_statements("retraining/approval.sql")
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


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked.

    Attributes:
        model_id: The candidate.
        subject: The question in one line.
        body: What to base the answer on, in Markdown.
    """

    model_id: str
    subject: str
    body: str


def ask_for_approval(settings: Settings, training_run_id: uuid.UUID, question_id: uuid.UUID) -> Question:
    """Records that a person is asked about a retraining's best candidate, and returns what to ask.

    Which candidate is the best, and what is shown of it, is read from the database. A retraining that failed, or that
    nobody answered in time, is running again. A repeated call returns the same question.

    Args:
        settings: Where the database is, and who may answer.
        training_run_id: The retraining.
        question_id: Airflow's id of the task instance that asks.

    Raises:
        PromotionRefusedError: No candidate passed every gate, or the retraining was decided already.
    """

    def ask(connection: sa.Connection) -> Question:
        asked = {"training_run_id": training_run_id, "question_id": question_id}
        best = connection.execute(_SQL["best_candidate"], asked).one_or_none()
        if best is None:
            raise PromotionRefusedError(
                f"Retraining {training_run_id} has no candidate that passed every gate, so nobody is asked. Next: see "
                "the view bloodcell.model_gate"
            )
        change_state(connection, training_run_id, TrainingState.RUNNING, step=Step.APPROVE)
        _require_running(connection, training_run_id)
        row = insert(tables.approval_question).values({**asked, "model_id": best.model_id})
        connection.execute(row.on_conflict_do_nothing())
        may_answer = f"Who may answer: {', '.join(settings.approver_names)}."
        summary = best.summary or f"The whole page: `{best.report}`"
        desk = f"[Look at the whole validation at the review desk]({settings.desk_origin}/validations/{best.model_id})"
        body = f"{summary}\n\n{desk}\n\n{may_answer}"
        return Question(best.model_id, f"Make model {best.model_id[:12]} champion?", body)

    return open_database(settings).transact(ask)


def record_answer(settings: Settings, question_id: uuid.UUID, answer: Mapping[str, Any]) -> None:
    """Records a person's answer to a question; a rejection ends the retraining. A repeated call changes nothing.

    Args:
        settings: Where the database is.
        question_id: The question.
        answer: As Airflow gives it to the task that asked: `chosen_options`, `params_input` with the `reason`,
            `responded_at`, and `responded_by_user`, the person whom Airflow authenticated.
    """
    user = answer.get("responded_by_user") or {}
    row = {
        "question_id": question_id,
        "decision": answer["chosen_options"][0],
        # Flask AppBuilder's id is a number, and its name is the login; in the SimpleAuthManager both are the login
        "answered_by": str(user.get("name") or user.get("id") or ""),
        "answered_at": answer["responded_at"],
        "reason": str((answer.get("params_input") or {}).get("reason") or ""),
    }

    def record(connection: sa.Connection) -> None:
        connection.execute(insert(tables.approval_answer).values(row).on_conflict_do_nothing())
        training_run_id = connection.scalar(_SQL["retraining_of_question"], {"question_id": question_id})
        _, approval = newest_answer(connection, training_run_id)
        if approval and approval.chosen == REJECT:
            reason = f"rejected by {approval.by}: {approval.reason or 'no reason given'}"
            change_state(
                connection, training_run_id, TrainingState.REJECTED, step=Step.APPROVE, reason=reason, approval=approval
            )

    open_database(settings).transact(record)


def newest_answer(connection: sa.Connection, training_run_id: uuid.UUID) -> tuple[str | None, Approval | None]:
    """Returns the candidate of a retraining's newest question, and the answer; None where there is none."""
    found = connection.execute(_SQL["newest_answer"], {"training_run_id": training_run_id}).one_or_none()
    if found is None:
        return None, None
    if found.decision is None:
        return found.model_id, None
    return found.model_id, Approval(found.decision, found.answered_by, found.answered_at.isoformat(), found.reason)


def is_unanswered(connection: sa.Connection, training_run_id: uuid.UUID, timeout_h: float) -> bool:
    """Returns whether nobody answered a retraining's newest question in time.

    Args:
        connection: Where to read.
        training_run_id: The retraining.
        timeout_h: Hours within which an answer counts.
    """
    values = {"training_run_id": training_run_id, "timeout_s": timeout_h * 3600}
    return bool(connection.scalar(_SQL["is_unanswered"], values))


def require_approval(approval: Approval | None, settings: AirflowSettings) -> Approval:
    """Returns the answer if it is an approval, with a reason, by a person who may approve.

    Raises:
        PromotionRefusedError: It is not; the message says why.
    """
    if approval is None:
        raise PromotionRefusedError(
            "No person has approved: nobody answered, or the task was marked successful by hand. Next: trigger the "
            "retraining again, and answer in Airflow (Required Actions) or with bloodcell approve."
        )
    if approval.chosen != APPROVE:
        raise PromotionRefusedError(f"The answer is {approval.chosen!r}, expected {APPROVE!r}; the champion stays.")
    if approval.by not in settings.approver_names:
        raise PromotionRefusedError(
            f"{approval.by or 'nobody'!r} may not approve a model. Expected one of BLOODCELL_APPROVERS: "
            f"{', '.join(settings.approver_names)}."
        )
    if not approval.reason.strip():
        raise PromotionRefusedError(
            "The approval has no reason; the reason is kept for good. Next: trigger the retraining again, and give one."
        )
    return approval


def _require_running(connection: sa.Connection, training_run_id: uuid.UUID) -> None:
    state, reason = connection.execute(_SQL["state"], {"training_run_id": training_run_id}).one()
    if state != TrainingState.RUNNING:
        raise PromotionRefusedError(
            f"Retraining {training_run_id} has ended: {state} ({reason}). Next: trigger another one"
        )
