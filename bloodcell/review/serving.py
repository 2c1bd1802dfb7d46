"""Serves the review desk until it is stopped."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from bloodcell.review.application import create_app
from bloodcell.review.services import open_services

if TYPE_CHECKING:
    from bloodcell.settings import Settings

_CONNECTIONS: Final = 200
_KEEP_ALIVE_S: Final = 30
_STOP_S: Final = 5


def serve_desk(settings: Settings, *, host: str | None = None) -> None:
    """Serves the desk on its address.

    Args:
        settings: The settings of the installation.
        host: Address of the machine to listen on instead of the one in `desk_url`, such as 0.0.0.0 in a container.

    Raises:
        ConfigurationError: A file of the laboratory is not valid, or the login may not act as the desk.
        DatabaseUnavailableError: Postgres is unavailable.
        SchemaError: The database belongs to another release.
    """
    import uvicorn

    # uvicorn repeats a signal to itself in the end: by default that would end the process before the Postgres that came
    # with it is stopped
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address = urlsplit(settings.desk_url)
    uvicorn.run(
        create_app(open_services(settings)),
        host=host or address.hostname or "127.0.0.1",
        port=address.port or 80,
        proxy_headers=settings.desk_public_url is not None,
        forwarded_allow_ips=settings.desk_proxy,
        server_header=False,
        log_level="warning",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_S,
    )
