"""Who may answer a question is known by name, where Flask AppBuilder knows people by number."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.dags.reading import airflow_environment
from tests.docker.test_files import DOCKER

ANSWERS = """
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
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Airflow is imported in a process of its own: it takes over logging, and makes files where it is at home."""
    environment = airflow_environment(tmp_path_factory.mktemp("airflow"))
    environment["PYTHONPATH"] = str(DOCKER)
    done = subprocess.run([sys.executable, "-c", ANSWERS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_who_was_asked_may_answer_and_nobody_else(answers: dict[str, Any]) -> None:
    assert answers["one of two"]
    assert not answers["another"]
    assert not answers["the number of another"]


def test_airflow_still_asks_by_that_name(answers: dict[str, Any]) -> None:
    """The method overrides one of Airflow's; were it renamed, nobody could approve, and this says why."""
    assert answers["defaults"] is None
    assert {"assigned_users", "user"} <= set(answers["parameters"])
