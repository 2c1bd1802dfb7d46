"""The states of a retraining: what they are, which step may cause which, and the one function that changes them.

    running ─┬─ skipped     snapshot   too few new labels, or a class without images
             ├─ refused     validate   no candidate passed every gate
             ├─ promoted    promote    a person approved, and the candidate became champion
             ├─ rejected    approve    a person rejected the candidate
             ├─ expired     close      nobody answered in time
             └─ failed      close      anything else

A decision is final: skipped, refused, promoted and rejected never change again. A failed or expired retraining
continues where its tasks are cleared: it is running again once a person is asked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.storage import tables

if TYPE_CHECKING:
    import uuid

    from bloodcell.retraining.approval import Approval


class TrainingState(StrEnum):
    """Where a retraining stands, or how it ended; the values of `training_run.state`."""

    RUNNING = "running"
    SKIPPED = "skipped"
    REFUSED = "refused"
    REJECTED = "rejected"
    EXPIRED = "expired"
    PROMOTED = "promoted"
    FAILED = "failed"


class Step(StrEnum):
    """A step of a retraining that may change its state."""

    SNAPSHOT = "snapshot"
    VALIDATE = "validate"
    APPROVE = "approve"
    PROMOTE = "promote"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, and the step that may cause it."""

    start: TrainingState
    end: TrainingState
    step: Step


TRANSITIONS: Final = (
    Transition(TrainingState.RUNNING, TrainingState.SKIPPED, Step.SNAPSHOT),
    Transition(TrainingState.RUNNING, TrainingState.REFUSED, Step.VALIDATE),
    Transition(TrainingState.RUNNING, TrainingState.PROMOTED, Step.PROMOTE),
    Transition(TrainingState.RUNNING, TrainingState.REFUSED, Step.PROMOTE),
    Transition(TrainingState.RUNNING, TrainingState.REJECTED, Step.APPROVE),
    Transition(TrainingState.RUNNING, TrainingState.EXPIRED, Step.CLOSE),
    Transition(TrainingState.RUNNING, TrainingState.FAILED, Step.CLOSE),
    Transition(TrainingState.FAILED, TrainingState.REFUSED, Step.VALIDATE),
    Transition(TrainingState.FAILED, TrainingState.RUNNING, Step.APPROVE),
    Transition(TrainingState.EXPIRED, TrainingState.RUNNING, Step.APPROVE),
    Transition(TrainingState.FAILED, TrainingState.PROMOTED, Step.PROMOTE),
    Transition(TrainingState.FAILED, TrainingState.REFUSED, Step.PROMOTE),
)
"""Every change of state that is allowed."""

ENDED_WELL: Final = frozenset(
    {TrainingState.SKIPPED, TrainingState.REFUSED, TrainingState.REJECTED, TrainingState.PROMOTED}
)
"""States after which the Dag run is green; after any other it is red."""


def change_state(
    connection: sa.Connection,
    training_run_id: uuid.UUID,
    state: TrainingState,
    *,
    step: Step,
    reason: str | None = None,
    approval: Approval | None = None,
) -> bool:
    """Brings a retraining to a state; returns False, and changes nothing, if its present state does not allow that.

    Args:
        connection: Where to write.
        training_run_id: The retraining.
        state: Its new state.
        step: The step that causes it.
        reason: Why, for a person; kept for good. None if it is running again.
        approval: The person's answer, if there is one.

    Raises:
        ValueError: `step` may never cause `state`.
    """
    starts = [each.start for each in TRANSITIONS if (each.end, each.step) == (state, step)]
    if not starts:
        expected = ", ".join(dict.fromkeys(each.end for each in TRANSITIONS if each.step == step))
        raise ValueError(f"Expected a state that {step} may cause: {expected}. Received: {state}")
    ended_at = None if state is TrainingState.RUNNING else sa.func.now()
    changes: dict[str, Any] = {"state": state, "state_reason": reason, "ended_at": ended_at}
    if approval is not None:
        changes["approval"] = asdict(approval)
    table = tables.training_run
    changed = connection.execute(
        sa.update(table).where(table.c.training_run_id == training_run_id, table.c.state.in_(starts)).values(**changes)
    )
    return changed.rowcount == 1
