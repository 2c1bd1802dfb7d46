"""The users who may respond to a question are compared by name; Flask AppBuilder itself compares numeric ids."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.dags.reading import airflow_environment
from tests.docker.test_files import DOCKER

pytestmark = pytest.mark.airflow

CHECKS = """
import json
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.providers.fab.auth_manager.models import User
from people import AuthManager
person, other = User(id=3, username="dr.a"), User(id=4, username="3")
may_answer = AuthManager.is_authorized_hitl_task
overridden = BaseAuthManager.is_authorized_hitl_task
print(json.dumps({
    "one of two": may_answer(None, assigned_users={"dr.a", "dr.b"}, user=person),
    "another": may_answer(None, assigned_users={"dr.b"}, user=person),
    "the number of another": may_answer(None, assigned_users={"dr.a"}, user=other),
    "defaults": overridden.__kwdefaults__,
    "parameters": sorted(overridden.__annotations__),
}))
"""


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results from another process, because importing Airflow takes over logging and writes files in its home."""
    environment = airflow_environment(tmp_path_factory.mktemp("airflow"))
    environment["PYTHONPATH"] = str(DOCKER)
    done = subprocess.run([sys.executable, "-c", CHECKS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_only_assigned_users_may_respond(checks: dict[str, Any]) -> None:
    assert checks["one of two"]
    assert not checks["another"]
    assert not checks["the number of another"]


def test_the_overridden_method_still_exists_in_airflow(checks: dict[str, Any]) -> None:
    """If Airflow renames it, nobody can approve a model any more."""
    assert checks["defaults"] is None
    assert {"assigned_users", "user"} <= set(checks["parameters"])
