"""The migrated database as a stage uses it: as role `bloodcell_app`, and waiting while the server is unavailable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.storage.connections import APP_ROLE, DESK_ROLE, connect, database_url, transact
from bloodcell.storage.migrations import check_own_views, check_revision

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bloodcell.settings import StorageSettings

Result = TypeVar("Result")

_DESK_CONNECTIONS: Final = 4
_DESK_LIMITS: Final = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
}
"""A person waits in front of the screen: what takes longer is told, and tried again."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database, and how long its transactions wait while the server is unavailable.

    Attributes:
        engine: The engine.
        patience_s: Seconds that a transaction waits for the server; 0 tries once.
    """

    engine: sa.Engine
    patience_s: float

    def transact(self, work: Callable[[sa.Connection], Result], *, patience_s: float | None = None) -> Result:
        """Returns the result of `work`, which runs in one transaction that is repeated while the server is unavailable.

        Args:
            work: Called with an open transaction, possibly several times, so it has to be idempotent.
            patience_s: Seconds to wait instead of the database's own patience.

        Raises:
            DatabaseUnavailableError: The server stayed unavailable for longer.
            ConfigurationError: The server refuses the login.
        """
        return transact(self.engine, work, patience_s=self.patience_s if patience_s is None else patience_s)

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Returns one transaction, which is not repeated."""
        return self.engine.begin()

    def connect(self) -> sa.Connection:
        """Returns a connection; the caller begins and ends its transactions."""
        return self.engine.connect()

    def dispose(self) -> None:
        """Closes the connection that was kept open."""
        self.engine.dispose()


def open_database(settings: StorageSettings, *, keep: bool = False) -> Database:
    """Returns the migrated database, acting as role `bloodcell_app`.

    Args:
        settings: The database's address and patience.
        keep: Keep one connection open between transactions, for a stage with many short ones: opening a connection took
            longer than writing the rows of a slide. Such a database must not be used across a fork and needs
            `dispose()` at the end. By default nothing is pooled.

    Raises:
        DatabaseUnavailableError: The server cannot be reached within the patience set.
        SchemaError: The database has not been migrated, or belongs to an older or newer release.
        ConfigurationError: The login may not act as `bloodcell_app`.
    """

    def check(connection: sa.Connection) -> None:
        if not _may_act_as_app(connection):
            raise ConfigurationError(
                f"This login is no member of {APP_ROLE}, which this command needs. Next: set BLOODCELL_DATABASE_URL to "
                "the login of the service. bloodcell nights, slides, result, differential and report need only a "
                "reader's."
            )
        check_revision(connection)

    patience_s = settings.database_patience_s
    transact(connect(database_url(settings)), check, patience_s=patience_s)
    return Database(connect(database_url(settings), role=APP_ROLE, keep=int(keep)), patience_s)


def open_views(settings: StorageSettings) -> Database:
    """Returns the migrated database for a command that only reads views, which a person's own login may do.

    It acts as role `bloodcell_app`, or as the login itself if that is only a reader or a reviewer.

    Raises:
        DatabaseUnavailableError: The server cannot be reached within the patience set.
        SchemaError: The database has not been migrated, or its views are those of another release.
        ConfigurationError: The login may not read the views.
    """
    engine, patience_s = connect(database_url(settings)), settings.database_patience_s
    if transact(engine, _may_act_as_app, patience_s=patience_s):
        return open_database(settings)
    transact(engine, check_own_views, patience_s=patience_s)
    return Database(engine, patience_s)


def open_desk_databases(settings: StorageSettings, *, patience_s: float) -> tuple[Database, Database]:
    """Returns the database as the review desk uses it: as role `bloodcell_desk`, and as `bloodcell_app` for counting.

    The first reads only views and writes only through functions that look up whose session it is. Both keep
    connections open, and need `dispose()` at the end.

    Args:
        settings: The database's address.
        patience_s: Seconds that a transaction waits for an unavailable server.

    Raises:
        DatabaseUnavailableError: The server cannot be reached within the patience set.
        SchemaError: The database has not been migrated, or belongs to an older or newer release.
        ConfigurationError: The login may not act as one of the two roles.
    """
    open_database(settings)
    url = database_url(settings)

    def check(connection: sa.Connection) -> None:
        may_act = sa.text("SELECT pg_has_role(session_user, :role, 'MEMBER')")
        if not connection.scalar(may_act, {"role": DESK_ROLE}):
            raise ConfigurationError(
                f"This login is no member of {DESK_ROLE}, as which the review desk works. Next: have it granted "
                f"{DESK_ROLE}, or set BLOODCELL_DATABASE_URL to the login of the desk."
            )

    transact(connect(url), check, patience_s=settings.database_patience_s)
    desk = connect(url, role=DESK_ROLE, keep=_DESK_CONNECTIONS, limits=_DESK_LIMITS)
    app = connect(url, role=APP_ROLE, keep=_DESK_CONNECTIONS, limits=_DESK_LIMITS)
    return Database(desk, patience_s), Database(app, patience_s)


def _may_act_as_app(connection: sa.Connection) -> bool:
    """Returns whether the login is a member of `bloodcell_app`; also before the first upgrade, which makes the role."""
    may_act = sa.text("SELECT pg_has_role(session_user, to_regrole(:role), 'MEMBER')")
    return connection.scalar(may_act, {"role": APP_ROLE}) is not False
