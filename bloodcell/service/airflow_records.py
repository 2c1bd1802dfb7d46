"""Runs, tasks and approvals as Airflow's API describes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

ENDED: Final = ("success", "failed")
WAITS_FOR_A_PERSON: Final = "awaiting_input"
_AT_WORK: Final = ("running", "queued")
_TASK_ENDED: Final = ("success", "skipped", "failed", "upstream_failed")


@dataclass(frozen=True, slots=True)
class TaskState:
    """The state of one task of a run; `map_index` is -1 for a task that is not mapped."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a Dag run."""

    run_id: str
    state: str
    tasks: tuple[TaskState, ...]

    @property
    def ended(self) -> bool:
        """Whether the run is over, successfully or not."""
        return self.state in ENDED

    @property
    def waits_for_a_person(self) -> bool:
        """Whether one of its tasks waits for a person's answer."""
        return any(task.state == WAITS_FOR_A_PERSON for task in self.tasks)

    @property
    def tasks_at_work(self) -> tuple[str, ...]:
        """Names of the tasks that are running or queued, each once."""
        return tuple(dict.fromkeys(task.task_id for task in self.tasks if task.state in _AT_WORK))

    @property
    def n_tasks_ended(self) -> int:
        """Number of task instances that are over, successfully or not."""
        return sum(task.state in _TASK_ENDED for task in self.tasks)

    @property
    def task_counts(self) -> Mapping[str, int]:
        """Number of task instances in each state."""
        return Counter(task.state or "waiting" for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Approval:
    """A question that a run asks a person, with the answer if there is one.

    Attributes:
        subject: The question.
        body: What the person needs to know to decide, in Markdown.
        assigned: Users who may answer.
        asked_at: When the question was asked.
        task_state: State of the task that asks: `WAITS_FOR_A_PERSON` until it is answered, times out or is marked by
            hand.
        chosen: The answer; None if there is none.
        by: Who answered.
        at: When the answer was given.
        reason: The reason entered with the answer.
    """

    subject: str
    body: str
    assigned: tuple[str, ...]
    asked_at: datetime
    task_state: str | None
    chosen: str | None
    by: str | None
    at: datetime | None
    reason: str | None

    @property
    def is_waiting(self) -> bool:
        """Whether an answer would still have an effect."""
        return self.chosen is None and self.task_state == WAITS_FOR_A_PERSON

    def refusal(self, run_id: str) -> str:
        """Returns a message that says why another answer would have no effect."""
        if self.chosen is None:
            return f"Run {run_id} no longer waits for an answer: its task is {self.task_state}. Nothing was changed."
        return f"Run {run_id} was answered already: {self.chosen}, by {self.by} at {self.at}. Nothing was changed."
