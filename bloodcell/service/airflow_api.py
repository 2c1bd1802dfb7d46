"""A small client of Airflow's REST API v2, with only the requests that bloodcell makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import httpx

from bloodcell.errors import RetryLaterError
from bloodcell.service.airflow_records import Approval, RunState, TaskState
from bloodcell.service.airflow_session import AirflowRefusedError, AirflowSession, AirflowUnavailableError

NIGHTLY_RUN: Final = "nightly_run"
IMPORT_LABELS: Final = "import_labels"
RETRAIN: Final = "retrain"
EARLIEST_ANSWER_S: Final = 10.0
"""Seconds after a question was asked during which its answer is held back.

Airflow 3.3.2 loses an answer that arrives before the scheduler has recorded that the asking task went to sleep: the
task fails with "state changed externally". On two cores the scheduler usually recorded it after 0.9 s, but after 5.8 s
when the task's supervisor was asleep as the task ended (`[workers] min_heartbeat_interval`).
"""
PATIENCE_S: Final = 180.0
"""Seconds for which a command that a person started keeps asking a busy API server.

With four processes competing for each core, the API server answered some requests only after 40 s.
"""
_LONGEST_NOTE: Final = 1_000
"""The longest note that Airflow 3.3.2 accepts, in characters."""


class AirflowApi(AirflowSession):
    """The requests, as methods; see `AirflowSession` for the arguments."""

    def health(self) -> dict[str, str]:
        """Returns component -> status ("healthy", "unhealthy"); components that never ran are left out."""
        health = self._json("GET", "/api/v2/monitor/health")
        return {name: str(part["status"]) for name, part in health.items() if part and part.get("status")}

    def make_pool(self, name: str, slots: int, description: str) -> None:
        """Makes a pool; one that exists keeps the slots that a person gave it.

        Args:
            name: Name of the pool.
            slots: Number of tasks that may run in it at the same time.
            description: What the pool is for, shown on Airflow's page.
        """
        body = {"name": name, "slots": slots, "description": description}
        try:
            self._json("POST", "/api/v2/pools", json=body)
        except AirflowRefusedError as error:
            if error.status != httpx.codes.CONFLICT:
                raise

    def pool_slots(self, name: str) -> int | None:
        """Returns the number of slots of a pool; None if there is no such pool."""
        try:
            return int(self._json("GET", f"/api/v2/pools/{name}")["slots"])
        except AirflowRefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def import_errors(self) -> dict[str, str]:
        """Returns Dag file -> why it could not be imported."""
        found = self._json("GET", "/api/v2/importErrors")
        return {str(item["filename"]): str(item["stack_trace"]) for item in found["import_errors"]}

    def dags(self) -> dict[str, bool]:
        """Returns Dag -> whether it is paused, for every Dag that Airflow knows so far."""
        found = self._json("GET", "/api/v2/dags", params={"limit": 100})
        return {str(dag["dag_id"]): bool(dag["is_paused"]) for dag in found["dags"]}

    def unpause(self, dag_id: str) -> None:
        """Unpauses a Dag, so that its runs are scheduled."""
        self._json("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, *, conf: Mapping[str, object], run_id: str | None = None) -> str:
        """Starts a run of a Dag.

        Args:
            dag_id: The Dag.
            conf: Values of its Params.
            run_id: Name of the run. The same name is refused the second time with status 409, so a repeated
                announcement does no harm.

        Returns:
            The run's id.

        Raises:
            AirflowRefusedError: A Param is not valid (status 400), the Dag is unknown (404), or there already is a run
                with this id (409).
            AirflowUnavailableError: Airflow is unavailable.
        """
        # named here, so that a request that has to be repeated does not start a second run
        own_name = f"manual__{datetime.now(UTC).isoformat()}"
        body = {"logical_date": None, "conf": dict(conf), "dag_run_id": run_id or own_name}
        try:
            return str(self._json("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])
        except AirflowRefusedError as error:
            if run_id is None and error.status == httpx.codes.CONFLICT:
                return own_name
            raise

    def run_state(self, dag_id: str, run_id: str) -> RunState:
        """Returns the state of a run and of its tasks.

        Args:
            dag_id: The Dag.
            run_id: The run.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        state = str(self._json("GET", path)["state"])
        tasks = self._json("GET", f"{path}/taskInstances", params={"limit": 1000})["task_instances"]
        return RunState(
            run_id,
            state,
            tuple(
                TaskState(t["task_id"], t["map_index"], t["state"], t["try_number"], t["pid"])
                for t in sorted(tasks, key=lambda t: (t["start_date"] or "~", t["task_id"], t["map_index"]))
            ),
        )

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout_s: float,
        on_progress: Callable[[RunState], None] | None = None,
        interval_s: float = 1.0,
        for_a_person: bool = True,
    ) -> RunState:
        """Waits until a run has ended, even while Airflow is unavailable, and returns its state.

        Args:
            dag_id: The Dag.
            run_id: The run.
            timeout_s: Longest wait, in seconds.
            on_progress: Called with the run's state after each request.
            interval_s: Seconds between two requests.
            for_a_person: Whether to keep waiting while the run waits for a person's answer.

        Raises:
            RetryLaterError: The run did not end within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        state: RunState | None = None
        while time.monotonic() < deadline:
            try:
                state = self.run_state(dag_id, run_id)
            except AirflowUnavailableError:
                pass
            else:
                if on_progress:
                    on_progress(state)
                if state.ended or (state.waits_for_a_person and not for_a_person):
                    return state
            time.sleep(interval_s)
        last = f"it is {state.state}, tasks: {dict(state.task_counts)}" if state else "Airflow did not respond"
        raise RetryLaterError(f"Run {run_id} of {dag_id} did not end within {timeout_s:g} s: {last}.")

    def add_note(self, dag_id: str, run_id: str, text: str) -> None:
        """Adds a text to a run's note, below what a person wrote there; a text that is there already is not repeated.

        Args:
            dag_id: The Dag.
            run_id: The run.
            text: What to add; it is cut off where Airflow's longest note ends.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        present = self._json("GET", path)["note"] or ""
        if text[:_LONGEST_NOTE] in present:
            return
        note = f"{present}\n\n{text}" if present else text
        if len(note) > _LONGEST_NOTE:
            note = f"{note[: _LONGEST_NOTE - 1]}…"
        self._json("PATCH", path, params={"update_mask": "note"}, json={"note": note})

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Returns the value that a task returned.

        Args:
            dag_id: The Dag.
            run_id: The run.
            task_id: The task.

        Raises:
            AirflowRefusedError: The task returned nothing (status 404).
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._json("GET", path)["value"]

    def approval(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Approval | None:
        """Returns the question that a task of a run asks a person, answered or not; None if it has asked none yet.

        Args:
            dag_id: The Dag.
            run_id: The run.
            task_id: The task that asks.
            map_index: Which instance of a mapped task; -1 for a task that is not mapped.
        """
        try:
            found = self._json("GET", _approval_path(dag_id, run_id, task_id, map_index))
        except AirflowRefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        responded_at = found["responded_at"]
        return Approval(
            subject=found["subject"],
            body=found["body"] or "",
            assigned=tuple(user["name"] for user in found["assigned_users"]),
            asked_at=datetime.fromisoformat(found["created_at"]),
            task_state=found["task_instance"]["state"],
            chosen=found["chosen_options"][0] if found["chosen_options"] else None,
            by=found["responded_by_user"]["name"] if found["responded_by_user"] else None,
            at=datetime.fromisoformat(responded_at) if responded_at else None,
            reason=found["params_input"].get("reason"),
        )

    def answer_approval(
        self, dag_id: str, run_id: str, task_id: str, *, approve: bool, reason: str, map_index: int = -1
    ) -> Approval:
        """Answers a run's question as the user of this session, and returns the question with its answer.

        Args:
            dag_id: The Dag.
            run_id: The run.
            task_id: The task that asks.
            approve: Whether to approve or to reject.
            reason: Why, for the record.
            map_index: Which instance of a mapped task; -1 for a task that is not mapped.

        Raises:
            AirflowRefusedError: This user may not answer (status 403), the task asks nothing (404), or the question
                was answered already, timed out or was marked by hand (409).
            AirflowUnavailableError: Airflow is unavailable.
        """
        question = self.approval(dag_id, run_id, task_id, map_index)
        if question is None:
            raise AirflowRefusedError(
                f"Task {task_id} of run {run_id} of {dag_id} asks nothing: there is no such run, or the run has not "
                f"reached the task yet, or has skipped it. The runs of {dag_id}: {self._page(dag_id)}",
                status=httpx.codes.NOT_FOUND,
            )
        # Airflow would accept an answer to a question that has timed out, and ignore it
        if not question.is_waiting:
            raise AirflowRefusedError(question.refusal(run_id), status=httpx.codes.CONFLICT)
        age_s = (datetime.now(UTC) - question.asked_at).total_seconds()
        time.sleep(min(max(EARLIEST_ANSWER_S - age_s, 0), EARLIEST_ANSWER_S))
        body = {"chosen_options": ["Approve" if approve else "Reject"], "params_input": {"reason": reason}}
        response = self._response("PATCH", _approval_path(dag_id, run_id, task_id, map_index), json=body)
        if response.status_code == httpx.codes.FORBIDDEN:
            who = ", ".join(question.assigned) or "users whose role allows it"
            raise AirflowRefusedError(
                f"The Airflow user {self._settings.airflow_user!r} may not answer run {run_id}; these users may: {who} "
                "(BLOODCELL_APPROVERS). Answer as one of them: set BLOODCELL_AIRFLOW_USER, and "
                "BLOODCELL_AIRFLOW_PASSWORD_FILE to the file with the password.",
                status=response.status_code,
            )
        if response.status_code != httpx.codes.CONFLICT:
            self._checked(response, "PATCH", "the answer")
        answered = self.approval(dag_id, run_id, task_id, map_index) or question
        if response.status_code == httpx.codes.CONFLICT and not self._is_own(answered, body):
            raise AirflowRefusedError(answered.refusal(run_id), status=response.status_code)
        return answered

    def run_page(self, dag_id: str, run_id: str) -> str:
        """Returns the address of a run's page, where a person can also answer its question.

        Args:
            dag_id: The Dag.
            run_id: The run.
        """
        return f"{self._page(dag_id)}/{quote(run_id, safe=':+')}"

    def _is_own(self, answered: Approval, body: Mapping[str, Any]) -> bool:
        """Returns whether the answer is the one that this session sent, in a request that had to be repeated."""
        expected = (self._settings.airflow_user, *body["chosen_options"], body["params_input"]["reason"])
        return (answered.by, answered.chosen, answered.reason) == expected

    def _page(self, dag_id: str) -> str:
        return f"{self._settings.airflow_url.rstrip('/')}/dags/{dag_id}/runs"


def _approval_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    run = quote(run_id, safe="")
    return f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}/{map_index}/hitlDetails"
