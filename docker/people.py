"""Airflow's people: by Flask AppBuilder, and known by name where a task names who may answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

if TYPE_CHECKING:
    from airflow.providers.fab.auth_manager.models import User


class AuthManager(FabAuthManager):  # type: ignore[misc]
    """FAB's, but for who may answer: it compares numbers of users, and `BLOODCELL_APPROVERS` are names."""

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """Returns whether a user is one of those that a question was put to."""
        return user.get_name() in assigned_users
