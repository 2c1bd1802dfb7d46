"""What a person does on Airflow's page, done through the API that the page uses."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import quote

import httpx

from bloodcell.service.airflow_home import read_password
from bloodcell.settings import Settings


class AirflowPage:
    """Airflow's page, with one person logged in; a context that logs out.

    Args:
        url: Where Airflow's API server is.
        user: The login.
        password: Its password.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.user = user
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=60)
        login = self._client.post("/auth/token", json={"username": user, "password": password})
        self._client.headers["Authorization"] = f"Bearer {login.raise_for_status().json()['access_token']}"

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Returns the page with BLOODCELL_AIRFLOW_USER logged in."""
        return cls(settings.airflow_url, settings.airflow_user, read_password(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Marks a task of a run "success", "failed" or "skipped" by hand."""
        self._send("PATCH", _task(dag_id, run_id, task_id), {"new_state": state})

    def clear_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clears a task and all that follow it, so that they run again."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]}
        self._send("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body | {"include_downstream": True})

    def write_xcom(self, dag_id: str, run_id: str, task_id: str, key: str, value: object) -> None:
        """Writes a result of a task, or replaces it."""
        path = f"{_task(dag_id, run_id, task_id)}/xcomEntries"
        written = self._client.post(path, json={"key": key, "value": value, "map_index": -1})
        if written.status_code == httpx.codes.CONFLICT:
            self._send("PATCH", f"{path}/{key}", {"value": value, "map_index": -1})
        else:
            written.raise_for_status()

    def write_note(self, dag_id: str, run_id: str, note: str) -> None:
        """Writes the note of a run."""
        self._send("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}", {"note": note})

    def answer(self, dag_id: str, run_id: str, task_id: str, *, reason: str) -> int:
        """Approves what a task asks; returns the HTTP status."""
        body = {"chosen_options": ["Approve"], "params_input": {"reason": reason}}
        return self._client.patch(f"{_task(dag_id, run_id, task_id)}/-1/hitlDetails", json=body).status_code

    def _send(self, method: str, path: str, body: dict[str, Any]) -> None:
        self._client.request(method, path, json=body).raise_for_status()


def forge_approval(page: AirflowPage, dag_id: str, run_id: str, approver: str) -> None:
    """Writes everywhere a client can write that an approver approved, without marking any task."""
    answer = {
        "chosen_options": ["Approve"],
        "params_input": {"reason": "forged"},
        "responded_by_user": {"id": approver, "name": approver},
        "responded_at": "2026-11-28T12:00:00+00:00",
    }
    for key in ("answer", "return_value"):
        page.write_xcom(dag_id, run_id, "approve", key, answer)
    page.write_note(dag_id, run_id, f"approved by {approver}")


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}"
