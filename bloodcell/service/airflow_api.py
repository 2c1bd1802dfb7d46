"""A small client of Airflow's REST API v2: what bloodcell asks of a running Airflow, and nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import httpx

from bloodcell.errors import BloodcellError, ConfigurationError, RetryLaterError
from bloodcell.service.airflow_home import read_password
from bloodcell.service.airflow_records import Approval, RunState, TaskState

if TYPE_CHECKING:
    from types import TracebackType

    from bloodcell.settings import Settings

NIGHTLY_RUN: Final = "nightly_run"
IMPORT_LABELS: Final = "import_labels"
RETRAIN: Final = "retrain"
VALIDATE_MODELS: Final = "check_champion"
ANSWERED_AT_THE_EARLIEST_S: Final = 10.0
"""Seconds after a question was asked before which its answer is held back.

Airflow 3.3.2 loses an answer that arrives before the scheduler has noted that the asking task went to sleep: the task
fails as "state changed externally". Measured on two cores: noted 0.9 s later as a rule, but 5.8 s where its supervisor
slept through the end (`[workers] min_heartbeat_interval`).
"""
_TIMEOUT_S: Final = 15.0
_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "::1")


class AirflowUnavailableError(RetryLaterError):
    """Airflow's API server could not be reached, or answered that it is not ready."""


class AirflowRefusedError(BloodcellError):
    """Airflow understood the request and refused it.

    Attributes:
        status: HTTP status of the answer.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class AirflowApi:
    """A session with Airflow's API server; logs in when first needed, and again when the token is no longer taken."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        try:
            url = httpx.URL(settings.airflow_url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"BLOODCELL_AIRFLOW_URL is not an address: {error}") from error
        # a proxy set for the way out is not asked for what runs on this machine
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=url.host not in _THIS_MACHINE)
        self._token: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def health(self) -> dict[str, str]:
        """Returns component -> status ("healthy", "unhealthy"); components that never ran are left out."""
        answer = self._json("GET", "/api/v2/monitor/health")
        return {name: str(part["status"]) for name, part in answer.items() if part and part.get("status")}

    def make_pool(self, name: str, slots: int, description: str) -> None:
        """Makes a pool; one that is there keeps the slots that a person gave it."""
        body = {"name": name, "slots": slots, "description": description}
        try:
            self._json("POST", "/api/v2/pools", json=body)
        except AirflowRefusedError as error:
            if error.status != httpx.codes.CONFLICT:
                raise

    def pool_slots(self, name: str) -> int | None:
        """Returns the slots of a pool, None where there is no such pool."""
        try:
            return int(self._json("GET", f"/api/v2/pools/{name}")["slots"])
        except AirflowRefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def import_errors(self) -> dict[str, str]:
        """Returns Dag file -> why it could not be imported."""
        answer = self._json("GET", "/api/v2/importErrors")
        return {str(item["filename"]): str(item["stack_trace"]) for item in answer["import_errors"]}

    def dags(self) -> dict[str, bool]:
        """Returns Dag -> whether it is paused, of all that Airflow knows (so far)."""
        answer = self._json("GET", "/api/v2/dags", params={"limit": 100})
        return {str(dag["dag_id"]): bool(dag["is_paused"]) for dag in answer["dags"]}

    def unpause(self, dag_id: str) -> None:
        """Lets a Dag run."""
        self._json("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, *, conf: Mapping[str, object], run_id: str | None = None) -> str:
        """Starts a run of a Dag.

        Args:
            dag_id: Which Dag.
            conf: Values of its Params.
            run_id: Name of the run. The same name again is refused with status 409, which makes an announcement
                that is repeated harmless.

        Returns:
            The run's id.

        Raises:
            AirflowRefusedError: Params of the wrong form (status 400), an unknown Dag (404), a known run id (409).
            AirflowUnavailableError: Airflow is away.
        """
        body: dict[str, object] = {"logical_date": None, "conf": dict(conf)}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self._json("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> RunState:
        """Returns where a run and its tasks stand."""
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
        """Waits until a run has ended; an Airflow that is away meanwhile is waited for.

        Args:
            dag_id: Which Dag.
            run_id: Which run.
            timeout_s: How long at most, in seconds.
            on_progress: Called with where the run stands, after each look.
            interval_s: Seconds between two looks.
            for_a_person: Go on waiting while the run waits for somebody's answer.

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
        stands = f"it is {state.state}, tasks: {dict(state.task_counts)}" if state else "Airflow did not answer"
        raise RetryLaterError(f"Run {run_id} of {dag_id} did not end within {timeout_s:g} s: {stands}.")

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Returns what a task returned.

        Raises:
            AirflowRefusedError: With status 404 where it returned nothing.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._json("GET", path)["value"]

    def approval(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Approval | None:
        """Returns what a run asks of a person, answered or not; None where that task has not asked (yet)."""
        try:
            found = self._json("GET", _approval_path(dag_id, run_id, task_id, map_index))
        except AirflowRefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        answered = found["responded_at"]
        return Approval(
            subject=found["subject"],
            body=found["body"] or "",
            assigned=tuple(user["name"] for user in found["assigned_users"]),
            asked_at=datetime.fromisoformat(found["created_at"]),
            task_state=found["task_instance"]["state"],
            chosen=found["chosen_options"][0] if found["chosen_options"] else None,
            by=found["responded_by_user"]["name"] if found["responded_by_user"] else None,
            at=datetime.fromisoformat(answered) if answered else None,
            reason=found["params_input"].get("reason"),
        )

    def answer_approval(
        self, dag_id: str, run_id: str, task_id: str, *, approve: bool, reason: str, map_index: int = -1
    ) -> Approval:
        """Answers what a run asks, as the user of this session, and returns the question with its answer.

        Raises:
            AirflowRefusedError: This user is not one who may answer (status 403), that task asks nothing (404), or it
                does no longer: it was answered, timed out or marked by hand (409).
            AirflowUnavailableError: Airflow is away.
        """
        asked = self.approval(dag_id, run_id, task_id, map_index)
        if asked is None:
            raise AirflowRefusedError(
                f"Nothing is asked by {task_id} of run {run_id} of {dag_id}: there is no such run, or it has not come "
                f"that far, or skipped it. Its runs: {self._page(dag_id)}",
                status=httpx.codes.NOT_FOUND,
            )
        # Airflow would take an answer to a question whose time is over, and do nothing with it
        if not asked.is_waiting:
            raise AirflowRefusedError(asked.refusal(run_id), status=httpx.codes.CONFLICT)
        asked_s = (datetime.now(UTC) - asked.asked_at).total_seconds()
        time.sleep(min(max(ANSWERED_AT_THE_EARLIEST_S - asked_s, 0), ANSWERED_AT_THE_EARLIEST_S))
        body = {"chosen_options": ["Approve" if approve else "Reject"], "params_input": {"reason": reason}}
        answer = self._response("PATCH", _approval_path(dag_id, run_id, task_id, map_index), json=body)
        if answer.status_code == httpx.codes.FORBIDDEN:
            who = ", ".join(asked.assigned) or "users whose role lets them act"
            raise AirflowRefusedError(
                f"The Airflow user {self._settings.airflow_user!r} may not answer run {run_id}; who may: {who} "
                "(BLOODCELL_APPROVERS). Answer as one of them: BLOODCELL_AIRFLOW_USER, and the password's file as "
                "BLOODCELL_AIRFLOW_PASSWORD_FILE.",
                status=answer.status_code,
            )
        if answer.status_code != httpx.codes.CONFLICT:
            self._checked(answer, "PATCH", "the answer")
        now = self.approval(dag_id, run_id, task_id, map_index) or asked
        if answer.status_code == httpx.codes.CONFLICT:
            raise AirflowRefusedError(now.refusal(run_id), status=answer.status_code)
        return now

    def run_page(self, dag_id: str, run_id: str) -> str:
        """Returns the address of a run's page, where a person also answers what it asks."""
        return f"{self._page(dag_id)}/{quote(run_id, safe=':+')}"

    def _page(self, dag_id: str) -> str:
        return f"{self._settings.airflow_url.rstrip('/')}/dags/{dag_id}/runs"

    def _json(self, method: str, path: str, **request: Any) -> Any:
        return self._checked(self._response(method, path, **request), method, path)

    def _response(self, method: str, path: str, **request: Any) -> httpx.Response:
        answer = self._send(method, path, **request)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._token is not None:
            self._token = None  # the secret changed, or the token's day is over
            answer = self._send(method, path, **request)
        return answer

    def _checked(self, answer: httpx.Response, method: str, path: str) -> Any:
        if answer.is_success:
            return self._read(answer) if answer.content else None
        detail = _detail(answer)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise AirflowUnavailableError(f"Airflow at {self._client.base_url} answered {answer.status_code}: {detail}")
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigurationError(
                f"Airflow at {self._client.base_url} refuses the user {self._settings.airflow_user!r}: {detail}. "
                "Check BLOODCELL_AIRFLOW_USER and BLOODCELL_AIRFLOW_PASSWORD_FILE."
            )
        raise AirflowRefusedError(
            f"Airflow refused {method} {path} ({answer.status_code}): {detail}", status=answer.status_code
        )

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            if self._token is None and not path.endswith("/monitor/health"):
                self._log_in()
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            return self._client.request(method, path, headers=headers, **request)
        except httpx.TransportError as error:
            raise AirflowUnavailableError(
                f"Airflow at {self._client.base_url} cannot be reached ({error}). Is `bloodcell up` running? "
                "Its address is the setting BLOODCELL_AIRFLOW_URL."
            ) from error

    def _log_in(self) -> None:
        body = {"username": self._settings.airflow_user, "password": read_password(self._settings)}
        answer = self._client.post("/auth/token", json=body)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise ConfigurationError(
                f"Airflow at {self._client.base_url} does not take the password of "
                f"{self._settings.airflow_user!r}. Check BLOODCELL_AIRFLOW_PASSWORD_FILE."
            )
        if not answer.is_success:
            raise AirflowUnavailableError(
                f"Airflow at {self._client.base_url} answered the log-in with {answer.status_code}: {_detail(answer)}"
            )
        self._token = str(self._read(answer)["access_token"])

    def _read(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise AirflowUnavailableError(
                f"What answers at {self._client.base_url} is not Airflow: expected JSON, received {answer.text[:60]!r}"
                ". Its address is the setting BLOODCELL_AIRFLOW_URL."
            ) from error


def _approval_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    run = quote(run_id, safe="")
    return f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}/{map_index}/hitlDetails"


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text
    return str(detail)[:500]
