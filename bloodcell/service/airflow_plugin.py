"""What bloodcell adds to Airflow's API server: no open documentation, and a limit on failed log-ins.

Airflow finds the plugin through the entry point `airflow.plugins`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.plugins_manager import AirflowPlugin

from bloodcell.errors import SettingError
from bloodcell.login_limit import LoginLimit, path_of, refuse
from bloodcell.settings import Settings

if TYPE_CHECKING:
    from bloodcell.login_limit import Application, Message, Receive, Send

OPEN_PAGES: Final = frozenset(
    f"{application}/{page}"
    for application in ("", "/auth", "/execution")
    for page in ("docs", "docs/oauth2-redirect", "redoc", "openapi.json")
)
"""Pages that Airflow 3.3.2 serves without a log-in. They only describe its API, but to anyone who reaches the port."""

LOGINS: Final = frozenset({"/auth/token", "/auth/token/cli", "/auth/login", "/auth/login/"})


class ClosedPages:
    """Answers 404 for `OPEN_PAGES`, as if they did not exist."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and path_of(scope) in OPEN_PAGES:
            await refuse(send, 404, b"Not Found")
        else:
            await self._app(scope, receive, send)


def _desk_link() -> list[dict[str, str]]:
    """Returns the link to the review desk in Airflow's navigation; none if the settings cannot be read."""
    try:
        return [{"name": "Review desk", "href": Settings().desk_origin, "destination": "nav", "category": "browse"}]
    except SettingError:
        return []


class BloodcellPlugin(AirflowPlugin):  # type: ignore[misc]  # Airflow is not followed
    """Registers the two middlewares, and the link to the review desk."""

    name = "bloodcell"
    external_views: ClassVar[list[dict[str, str]]] = _desk_link()
    fastapi_root_middlewares: ClassVar[list[dict[str, Any]]] = [
        {
            "middleware": LoginLimit,
            "args": [],
            "kwargs": {"paths": LOGINS},
            "name": "limit on failed log-ins",
        },
        {"middleware": ClosedPages, "args": [], "kwargs": {}, "name": "no open documentation"},
    ]
