"""Connects to Postgres with the fewest rights, and repeats transactions that a restart of the server interrupts."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg2
import psycopg2.errors
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bloodcell.errors import ConfigurationError, DatabaseUnavailableError
from bloodcell.storage.embedded import embedded_database, embedded_psql
from bloodcell.storage.wire import WIRE

if TYPE_CHECKING:
    from bloodcell.settings import StorageSettings

Result = TypeVar("Result")

OWNER_ROLE: Final = "bloodcell_owner"
APP_ROLE: Final = "bloodcell_app"
DESK_ROLE: Final = "bloodcell_desk"
READER_ROLE: Final = "bloodcell_reader"
REVIEWER_ROLE: Final = "bloodcell_reviewer"
_READER_LIMITS: Final = {
    "lock_timeout": "10s",
    "statement_timeout": "10min",
    "idle_in_transaction_session_timeout": "5min",
}
"""Settings of psql; sql/views/70_logins.sql gives the same ones to the logins of readers."""
_ROLE_LIMITS: Final = {
    "lock_timeout": "10min",
    "statement_timeout": "1h",
    "idle_in_transaction_session_timeout": "30min",
}
"""Settings of bloodcell's own transactions: a stopped process does not keep the others waiting for longer. Options in
the URL may set others."""
_POOL_WAIT_S: Final = 10.0
"""Seconds that a thread waits for one of the connections that a process keeps open."""
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0


def database_url(settings: StorageSettings) -> str:
    """Returns the URL of the database in use; starts the embedded server if no other is configured."""
    return settings.plain_database_url or embedded_database(settings).url()


def connect(url: str, role: str | None = None, *, keep: int = 0, limits: Mapping[str, str] = _ROLE_LIMITS) -> sa.Engine:
    """Returns an engine on `url` whose transactions act as `role` (default: the login itself).

    The role is set in each transaction, which also works through PgBouncer in transaction mode: a session there is
    shared with other clients. Text is exchanged in UTF-8, whatever PGCLIENTENCODING or the login's settings say.

    Args:
        url: SQLAlchemy URL.
        role: The role whose rights the transactions have; statements in autocommit would have the login's.
        keep: Connections that stay open between transactions; see `open_database`.
        limits: Time-outs of the role's transactions.

    Raises:
        ConfigurationError: `url` is not that of a Postgres database. The message never contains the password.
    """
    parsed = _parse(url)
    options = _options(parsed, None)
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg2"),
        **(
            {"poolclass": sa.QueuePool, "pool_size": keep, "pool_timeout": _POOL_WAIT_S}
            if keep
            else {"poolclass": sa.NullPool}
        ),
        hide_parameters=True,  # error texts reach logs and Airflow's pages, and parameters can be about a patient
        connect_args={
            **WIRE,
            **({"options": options} if options else {}),
            "client_encoding": "UTF8",
            "application_name": "bloodcell",
        },
    )
    sa.event.listen(engine, "handle_error", _leave_out_values)
    at_begin = "SET LOCAL role TO DEFAULT"  # another client of the pooler may have left its own role
    if role is not None:
        limited = (f"SET LOCAL {name} = '{value}'" for name, value in limits.items() if name not in options)
        at_begin = "; ".join([f'SET LOCAL ROLE "{role}"', *limited])
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(at_begin))
    return engine


def check_psql_role(settings: StorageSettings) -> None:
    """Raises ConfigurationError unless `psql_command` gives the rights of role `bloodcell_reader`.

    A connection pooler such as PgBouncer may ignore the options with which a connection starts; psql would then have
    all rights of the login.
    """
    parsed = _parse(database_url(settings))
    arguments = {**WIRE, "options": _options(parsed, READER_ROLE), "client_encoding": "UTF8"}
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool, connect_args=arguments
    )
    acts_as = transact(engine, lambda connection: connection.scalar(sa.text("SELECT current_user")), patience_s=0)
    if acts_as != READER_ROLE:
        raise ConfigurationError(
            f"psql would act as {acts_as}, expected {READER_ROLE}: something between here and Postgres, such as "
            "PgBouncer, ignores the options of a connection. Next: set BLOODCELL_DATABASE_URL to Postgres "
            "itself for this command"
        )


def psql_command(settings: StorageSettings) -> tuple[list[str], dict[str, str]]:
    """Returns the command that opens psql as role `bloodcell_reader`, and the environment variables it needs.

    A script stops at its first error, with a non-zero exit status.

    Raises:
        ConfigurationError: The URL requires TLS, and no psql that supports it is installed.
    """
    if settings.plain_database_url:
        url, program = _parse(settings.plain_database_url), shutil.which("psql")
        if program is None:
            if "sslmode" in url.query:
                raise ConfigurationError(
                    "The database URL requires TLS (sslmode), which the psql that comes with bloodcell does not "
                    "support. Install PostgreSQL's client (Debian: postgresql-client)."
                )
            program = str(embedded_psql())
    else:
        embedded = embedded_database(settings)
        url, program = _parse(embedded.url()), str(embedded.psql)
    limits = " ".join(f"-c {name}={value}" for name, value in _READER_LIMITS.items())
    # of two settings the last one counts: the URL may set other limits, but no other role
    options = {"PGOPTIONS": f"{limits} {_options(url, READER_ROLE)} -c search_path=bloodcell"}
    given = url.password or url.query.get("password")
    password = {"PGPASSWORD": str(given)} if given else {}
    # options in the URL would override PGOPTIONS and so restore the login's own rights; the password is left out, since
    # everyone on the machine can read a command line
    query = {name: value for name, value in url.query.items() if name not in ("options", "password")}
    plain = sa.URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return [program, "-v", "ON_ERROR_STOP=1", plain.render_as_string(hide_password=False)], options | password


def transact(engine: sa.Engine, work: Callable[[sa.Connection], Result], *, patience_s: float) -> Result:
    """Returns the result of `work`, which runs in one transaction that is repeated while the server is unavailable.

    `work` has to be idempotent: if the server dies during the commit, it is unknown whether the commit took place.

    Args:
        engine: The database.
        work: Called with an open transaction, possibly several times.
        patience_s: Seconds to wait for an unavailable server; 0 tries once.

    Raises:
        DatabaseUnavailableError: The server stayed unavailable for longer, or a statement or a lock took too long.
        ConfigurationError: The server refuses the login.
    """
    deadline = time.monotonic() + patience_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            with engine.begin() as connection:
                return work(connection)
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(
                "All connections of this process to Postgres are in use. Next: run this again."
            ) from error
        except (DBAPIError, psycopg2.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if _REFUSED.search(str(cause)) and isinstance(cause, _REFUSALS):
                next_step = f"correct it, or have the login granted {APP_ROLE}"
                if "unsupported startup parameter: options" in str(
                    cause
                ):  # from PgBouncer; psql cannot do without them
                    next_step = "leave options out of it; bloodcell db psql needs the address of Postgres itself"
                raise ConfigurationError(
                    f"Postgres at {engine.url.render_as_string(hide_password=True)} (BLOODCELL_DATABASE_URL) refuses "
                    f"the login: {str(cause).strip()} Next: {next_step}; then bloodcell db status."
                ) from error
            if getattr(cause, "pgcode", None) in _TIMED_OUT:
                raise DatabaseUnavailableError(
                    f"Postgres undid a transaction: {str(cause).strip()} Next: run this again. If that does not help, "
                    "see in pg_stat_activity which session keeps it waiting."
                ) from error
            if not _is_transient(cause):
                raise
            if time.monotonic() + pause_s > deadline:
                raise DatabaseUnavailableError(
                    f"Postgres at {engine.url.render_as_string(hide_password=True)} stayed unavailable for "
                    f"{patience_s:g} s (BLOODCELL_DATABASE_PATIENCE_S). Start it, then run this again: "
                    f"nothing is lost or written twice. Last error: {cause}"
                ) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


# errors that waiting does not resolve; the server reports them before there is a session, so they have no error code
_REFUSED: Final = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|permission denied to set role"
    r'|FATAL: .*(?:database|role) ".*" does not exist|role ".*" is not permitted to log in|invalid sslmode value'
    r"|unsupported startup parameter"
)
_REFUSALS: Final = (psycopg2.OperationalError, psycopg2.errors.InsufficientPrivilege)
# a lock was not available in time, a statement was cancelled, a transaction was idle or open for too long
_TIMED_OUT: Final = {"55P03", "57014", "25P03", "25P04"}
# after 40P01 (deadlock) and 40001 (serialisation failure) the same transaction has to run again; 57P0x is a server that
# shuts down, 25006 a standby that is not promoted yet, 53100 a full disk, 53200 out of memory, 53300 too many
# connections (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_TRANSIENT: Final = {"25006", "40P01", "40001", "57P01", "57P02", "57P03", "53100", "53200", "53300"}


def _parse(url: str) -> sa.URL:
    # an error of the parser can quote the URL with its password, so it is not chained
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "BLOODCELL_DATABASE_URL is not a database URL. Expected postgresql+psycopg2://user:password@host:port/name "
            "(its value is not shown, because it may hold a password)."
        ) from None
    if not parsed.drivername.startswith("postgresql"):
        raise ConfigurationError(
            "BLOODCELL_DATABASE_URL has to be a Postgres URL (postgresql+psycopg2://...), "
            f"received {parsed.render_as_string(hide_password=True)}."
        )
    if "@" in (parsed.host or ""):
        raise ConfigurationError(
            "BLOODCELL_DATABASE_URL has more than one @. Write an @ in the user name or password as %40."
        )
    return parsed


def _leave_out_values(failure: sa.engine.ExceptionContext) -> None:
    # Postgres' DETAIL quotes rows and keys, which can be about a patient; a program still finds it in diag
    error = failure.original_exception
    if isinstance(error, psycopg2.Error) and error.args:
        error.args = (str(error.args[0]).split("\nDETAIL:")[0], *error.args[1:])
        if failure.sqlalchemy_exception is not None:
            failure.sqlalchemy_exception.args = (f"({type(error).__name__}) {error.args[0]}",)


def _options(url: sa.URL, role: str | None) -> str:
    given = url.query.get("options", "")
    return " ".join([given if isinstance(given, str) else " ".join(given), *([f"-c role={role}"] if role else [])])


def _is_transient(cause: BaseException | None) -> bool:
    code = getattr(cause, "pgcode", None)
    if code is not None:
        return code in _TRANSIENT
    # an error without a code does not come from the server: connection refused, closed, or lost during a COPY
    return (
        isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)) or type(cause) is psycopg2.DatabaseError
    )
