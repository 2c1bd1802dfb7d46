"""A person's answer to whether a candidate becomes champion, and the rules by which it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import PromotionRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.settings import AirflowSettings

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
        """Returns a person's answer to Airflow's ApprovalOperator; None if the task was marked by hand instead."""
        if not answer or not answer.get("chosen_options"):
            return None
        user = answer.get("responded_by_user") or {}
        return cls(
            chosen=str(answer["chosen_options"][0]),
            by=str(user.get("name") or user.get("id") or ""),
            at=str(answer.get("responded_at") or ""),
            reason=str((answer.get("params_input") or {}).get("reason") or ""),
        )


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
