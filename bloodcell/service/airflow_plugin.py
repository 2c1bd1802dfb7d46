"""What bloodcell adds to Airflow's API server: no open documentation, and a limit on failed log-ins.

Airflow finds the plugin through the entry point `airflow.plugins`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.plugins_manager import AirflowPlugin

from bloodcell.errors import SettingError
from bloodcell.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN_PAGES: Final = frozenset(
    f"{application}/{page}"
    for application in ("", "/auth", "/execution")
    for page in ("docs", "docs/oauth2-redirect", "redoc", "openapi.json")
)
"""Pages that Airflow 3.3.2 serves without a log-in. They only describe its API, but to anyone who reaches the port."""

LOGINS: Final = frozenset({"/auth/token", "/auth/token/cli", "/auth/login", "/auth/login/"})
MAX_FAILURES: Final = 10
WINDOW_S: Final = 60.0
"""An address may fail to log in `MAX_FAILURES` times within this time: a person who mistypes does not notice it."""
_MAX_ADDRESSES: Final = 10_000


class ClosedPages:
    """Answers 404 for `OPEN_PAGES`, as if they did not exist."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _path(scope) in OPEN_PAGES:
            await _refuse(send, 404, b"Not Found")
        else:
            await self._app(scope, receive, send)


class LoginLimit:
    """Answers 429 to an address that has failed to log in too often, until its failures are older than `WINDOW_S`.

    The IPv6 addresses of a /64 network count as one address. An attempt counts from its beginning, so that many at once
    are not answered either; a successful one is forgotten. The counts are those of one process.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._attempts: defaultdict[str, list[float]] = defaultdict(list)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or _path(scope) not in LOGINS:
            await self._app(scope, receive, send)
            return
        now = time.monotonic()
        address = _network_of((scope.get("client") or ("",))[0])
        if len(self._attempts) > _MAX_ADDRESSES:
            self._attempts.clear()
        recent = self._attempts[address]
        recent[:] = [at for at in recent if now - at < WINDOW_S]
        if len(recent) >= MAX_FAILURES:
            wait_s = max(1, round(WINDOW_S - (now - recent[0])))
            await _refuse(send, 429, b"Too many failed log-ins; try again later", (b"retry-after", b"%d" % wait_s))
            return
        recent.append(now)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and not _has_failed(message) and now in recent:
                recent.remove(now)
            await send(message)

        await self._app(scope, receive, watched)


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
        {"middleware": LoginLimit, "args": [], "kwargs": {}, "name": "limit on failed log-ins"},
        {"middleware": ClosedPages, "args": [], "kwargs": {}, "name": "no open documentation"},
    ]


def _network_of(address: str) -> str:
    """Returns an IPv4 address, or the /64 network of an IPv6 address, because a single machine has all of that."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv4Address):
        return address
    return str(known.ipv4_mapped or IPv6Network((int(known), 64), strict=False))


def _path(scope: Message) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _has_failed(message: Message) -> bool:
    if message["status"] in (400, 401, 403, 422):
        return True
    # Flask AppBuilder's page sends a person with a wrong password back to itself
    return any(name.lower() == b"location" and b"/login" in value for name, value in message["headers"])


async def _refuse(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    all_headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
