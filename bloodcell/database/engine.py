"""Connections to Postgres with least rights, and transactions that outlive a server's restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg2
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from bloodcell.database.embedded import embedded_database
from bloodcell.database.migrations import check_revision
from bloodcell.errors import ConfigurationError, DatabaseUnavailableError

if TYPE_CHECKING:
    from bloodcell.settings import Settings

Result = TypeVar("Result")

APP_ROLE: Final = "bloodcell_app"
READER_ROLE: Final = "bloodcell_reader"
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0


def database_url(settings: Settings) -> str:
    """Returns the URL of the database in use; starts the embedded server where no other is configured."""
    return settings.database_url or embedded_database(settings).url()


def open_database(settings: Settings) -> sa.Engine:
    """Returns an engine on the migrated database, acting as role `bloodcell_app`.

    No connection is pooled, so the engine may cross a fork.

    Raises:
        DatabaseUnavailableError: The server cannot be reached within the patience set.
        SchemaError: The database was never migrated, or is of an older or a newer release.
    """
    engine = connect(database_url(settings))
    transact(engine, check_revision, patience_s=settings.database_patience_s)
    return connect(database_url(settings), role=APP_ROLE)


def connect(url: str, role: str | None = None) -> sa.Engine:
    """Returns an engine on `url`, each connection acting as `role` (default: the login itself)."""
    options = f"-c role={role}" if role else ""
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "postgresql":
            raise ConfigurationError(
                f"BLOODCELL_DATABASE_URL has to be a Postgres URL (postgresql+psycopg2://...), "
                f"received {parsed.render_as_string(hide_password=True)}."
            )
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg2"),
            poolclass=sa.NullPool,
            connect_args={"options": options, "connect_timeout": 10, "application_name": "bloodcell"},
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigurationError(f"BLOODCELL_DATABASE_URL is not a database URL: {error}") from error


def psql_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Returns the command that opens psql as role `bloodcell_reader`, and the environment variables it needs."""
    if settings.database_url:
        url, program = sa.make_url(settings.database_url), "psql"
    else:
        embedded = embedded_database(settings)
        url, program = sa.make_url(embedded.url()), str(embedded.psql)
    options = {"PGOPTIONS": f"-c role={READER_ROLE} -c search_path=bloodcell"}
    password = {"PGPASSWORD": url.password} if url.password else {}
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    return [program, plain], options | password


def transact(engine: sa.Engine, work: Callable[[sa.Connection], Result], *, patience_s: float) -> Result:
    """Returns what `work` returns, done in one transaction; repeated while the server is away.

    `work` has to be idempotent: when the server dies during the commit, nobody knows whether it took place.

    Args:
        engine: Where to work.
        work: Called with an open transaction, possibly several times.
        patience_s: Seconds to wait for a server that is away; 0 tries once.

    Raises:
        DatabaseUnavailableError: The server stayed away for longer.
    """
    deadline = time.monotonic() + patience_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            with engine.begin() as connection:
                return work(connection)
        except (DBAPIError, psycopg2.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if not _server_is_away(cause):
                raise
            if time.monotonic() + pause_s > deadline:
                raise DatabaseUnavailableError(
                    f"Postgres at {engine.url.render_as_string(hide_password=True)} stayed away for "
                    f"{patience_s:g} s (BLOODCELL_DATABASE_PATIENCE_S). Start it, then run this again: "
                    f"nothing is lost or written twice. Last error: {cause}"
                ) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


# 40P01 deadlock and 40001 serialisation ask for the same transaction again; 57P0x is a server going down,
# 53300 one with too many connections (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_PASSING: Final = {"40P01", "40001", "57P01", "57P02", "57P03", "53300"}


def _server_is_away(cause: BaseException | None) -> bool:
    code = getattr(cause, "pgcode", None)
    if code is not None:
        return code in _PASSING
    # without a code it was not the server that spoke: refused, closed in the middle, or gone during a COPY
    return (
        isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)) or type(cause) is psycopg2.DatabaseError
    )
