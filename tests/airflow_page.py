"""What a person does on Airflow's page, done through the API that the page uses."""

from __future__ import annotations

from urllib.parse import quote

import httpx

from bloodcell.service.airflow_home import read_password
from bloodcell.settings import Settings


def mark_task(settings: Settings, dag_id: str, run_id: str, task_id: str, state: str) -> None:
    """Marks a task of a run "success", "failed" or "skipped" by hand, as BLOODCELL_AIRFLOW_USER."""
    path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}"
    user = {"username": settings.airflow_user, "password": read_password(settings)}
    with httpx.Client(base_url=settings.airflow_url, trust_env=False) as client:
        token = client.post("/auth/token", json=user).raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        client.patch(path, json={"new_state": state}, headers=headers).raise_for_status()
