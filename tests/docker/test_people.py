"""Who may answer a question is known by name, where Flask AppBuilder knows people by number."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import pytest

from tests.docker.test_files import DOCKER


@pytest.fixture
def is_authorized(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    monkeypatch.syspath_prepend(str(DOCKER))
    monkeypatch.delitem(sys.modules, "people", raising=False)
    manager = importlib.import_module("people").AuthManager
    is_authorized: Callable[..., bool] = manager.is_authorized_hitl_task
    return is_authorized


def test_who_was_asked_may_answer_and_nobody_else(is_authorized: Callable[..., bool]) -> None:
    from airflow.providers.fab.auth_manager.models import User

    person, other = User(id=3, username="dr.a"), User(id=4, username="3")
    assert is_authorized(None, assigned_users={"dr.a", "dr.b"}, user=person)
    assert not is_authorized(None, assigned_users={"dr.b"}, user=person)
    assert not is_authorized(None, assigned_users={"dr.a"}, user=other)


def test_airflow_still_asks_by_that_name() -> None:
    """The method overrides one of Airflow's; were it renamed, nobody could approve, and this says why."""
    from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager

    assert BaseAuthManager.is_authorized_hitl_task.__kwdefaults__ is None
    assert {"assigned_users", "user"} <= BaseAuthManager.is_authorized_hitl_task.__annotations__.keys()
