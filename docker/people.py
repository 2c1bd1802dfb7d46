"""Airflow's users in Flask AppBuilder, found by name where a task names the users who may answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

if TYPE_CHECKING:
    from airflow.providers.fab.auth_manager.models import User


class AuthManager(FabAuthManager):  # type: ignore[misc]
    """FAB's manager, except that it compares names: FAB compares user ids, and `BLOODCELL_APPROVERS` are names."""

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """Returns whether a user is one of those assigned to a question."""
        return user.get_name() in assigned_users
