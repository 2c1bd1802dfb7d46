"""The whole system on one machine: Postgres, the review desk, Airflow and the watcher, started in order.

Airflow's three components are started here and not by `airflow standalone`, which would also start a triggerer and a
log server. No Dag here needs the triggerer (Airflow 3.3 parks tasks that wait for a person without one), and the log
server listens on every network interface. Measured on two cores, the API server, the Dag processor and the scheduler
take 17, 12 and 9 s of processor time until they are ready, and 0.6 GB of memory together.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psutil
import sqlalchemy as sa

from bloodcell.environment import STACK_MARK
from bloodcell.errors import BloodcellError, ConfigurationError, RetryLaterError
from bloodcell.exchange.exchange_file import read_exchange_file
from bloodcell.registry.shipped import install_shipped
from bloodcell.resources import dag_ids
from bloodcell.served_address import served_address, up_lock
from bloodcell.service.airflow_api import PATIENCE_S, AirflowApi
from bloodcell.service.airflow_home import HOST, airflow_home, prepare_airflow_home
from bloodcell.service.airflow_session import AirflowUnavailableError
from bloodcell.service.desk_health import desk_responds
from bloodcell.service.processes import Announce, Child, NewLines, Program, end_processes, marked_processes, open_log
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import AIRFLOW_DATABASE, EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import limit_logins, upgrade
from bloodcell.storage.private_files import make_data_folder

if TYPE_CHECKING:
    from bloodcell.settings import Settings

GPU_POOL: Final = "gpu"
WATCHER: Final = "watcher"
DESK: Final = "review-desk"
ORDERS: Final = "order-listener"
_READY_S: Final = 300.0
_STOP_S: Final = 10.0
_LOOK_S: Final = 0.5


class Stack:
    """The running system; until `stop`, a thread restarts whatever ends.

    Args:
        settings: The settings of the installation.
        watch: Whether the watcher runs too.
        announce: Called with a line for a person at each step.
    """

    def __init__(self, settings: Settings, *, watch: bool = True, announce: Announce) -> None:
        self.settings = settings
        self._announce = announce
        self._watch = watch
        self._logs = settings.data_dir / "logs"
        self._stopping = threading.Event()
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._postgres: EmbeddedPostgres | None = None
        self._keeper: threading.Thread | None = None
        self._environment: dict[str, str] = {}
        self._watched = NewLines(self._logs / f"{WATCHER}.log")

    def start(self) -> None:
        """Starts everything and returns when a run can be triggered.

        Raises:
            ConfigurationError: The port is in use, the exchange file is not valid, or Airflow cannot serve these
                settings.
            DatabaseUnavailableError: Postgres does not start or cannot be reached.
            RetryLaterError: Airflow did not become ready in time.
        """
        self._end_left_over()
        takes_orders = read_exchange_file(self.settings.exchange_file).orders is not None
        desk = urlsplit(self.settings.desk_url)
        _refuse_taken_port(airflow_home(self.settings).port, "Airflow", "--port", "AIRFLOW_URL")
        _refuse_taken_port(desk.port or 80, "the review desk", "--desk-port", "DESK_URL")
        self._announce("Postgres: starting")
        self._postgres = embedded_database(self.settings)
        database_url = self.settings.plain_database_url or self._postgres.url()
        upgrade(database_url)
        limit_logins(database_url)
        if installed := install_shipped(self.settings, open_database(self.settings)):
            self._announce(
                f"Models: installed the {len(installed)} shipped ones; the champion is {installed[0].manifest.variant}"
            )
        metadata_url = self._postgres.url(AIRFLOW_DATABASE)
        home = prepare_airflow_home(self.settings, metadata_url)
        self._environment = home.environment(self.settings, database_url)
        for inbox, configured in (
            (self.settings.drops, self.settings.drops_dir),
            (self.settings.labels, self.settings.labels_dir),
        ):
            if configured is None:  # a configured folder that is missing is a share that is not mounted
                inbox.mkdir(parents=True, exist_ok=True)
        self._migrate_airflow(metadata_url)
        self._keeper = threading.Thread(target=self._keep_running, name="keeper", daemon=True)
        self._keeper.start()
        self._add(DESK, "bloodcell", "desk")  # in a second or two, while Airflow needs twenty
        if takes_orders:
            self._add(ORDERS, "bloodcell", "exchange", "listen")
        self._announce("Airflow: starting")
        self._add("api-server", "airflow", "api-server", *(["--proxy-headers"] if home.public_url else []))
        self._add("dag-processor", "airflow", "dag-processor")
        with AirflowApi(self.settings) as api, AirflowApi(self.settings, patience_s=PATIENCE_S) as patient:
            # a task in a pool that does not exist is never scheduled, so the pool is made before the scheduler starts
            self._wait_for(lambda: _responds(api), "Airflow's API server", "api-server")
            self._announce("Airflow: API server responds")
            patient.make_pool(GPU_POOL, 1, "One task at a time on the accelerator (or on all cores).")
            self._add("scheduler", "airflow", "scheduler", "--skip-serve-logs")
            self._wait_for(lambda: _is_ready(api), "Airflow's scheduler and Dags", "scheduler")
        if self._watch:
            self._add(WATCHER, "bloodcell", "watch")
        self._wait_for(lambda: desk_responds(self.settings), "The review desk", DESK)

    def stop(self) -> None:
        """Stops everything, Postgres last; no process is left behind, even if one hangs."""
        self._stopping.set()
        if self._keeper:
            self._keeper.join()
        with self._lock:
            stoppers = [threading.Thread(target=child.stop, args=(_STOP_S,)) for child in self._children]
            for thread in stoppers:
                thread.start()
            for thread in stoppers:
                thread.join()
            end_processes(self._marked(), patience_s=1)
        if self._postgres:
            self._postgres.stop()

    def _add(self, name: str, module: str, *arguments: str) -> None:
        program = Program(name, (sys.executable, "-m", module, *arguments), self._logs / f"{name}.log")
        child = Child(program, self._environment, STACK_MARK, self._announce)
        with self._lock:
            child.start()
            self._children.append(child)

    def _keep_running(self) -> None:
        """Restarts Postgres and the children when they end, until a stop is requested."""
        while not self._stopping.wait(_LOOK_S):
            with self._lock:
                try:
                    if self._postgres and self._postgres.ensure_running():
                        self._announce("Postgres ended and was started again")
                    for child in self._children:
                        child.look()
                except (BloodcellError, OSError, psutil.Error) as error:  # out of memory or of processes: try again
                    self._announce(f"A program ended and cannot be restarted, trying again: {error}")
            self._pass_on()

    def _pass_on(self) -> None:
        """Announces what the watcher announces; other lines of its log, such as a traceback, stay there."""
        for line in self._watched.read():
            with suppress(ValueError, TypeError, KeyError):
                self._announce(json.loads(line)["event"])

    def _marked(self) -> list[psutil.Process]:
        return marked_processes({STACK_MARK: str(self.settings.data_dir.resolve())})

    def _end_left_over(self) -> None:
        if left_over := self._marked():
            self._announce(f"Ending {len(left_over)} processes left by an earlier `bloodcell up` that was killed")
            end_processes(left_over, patience_s=3)

    def _migrate_airflow(self, metadata_url: str) -> None:
        """Migrates Airflow's own database, unless this release did so before: the check alone takes 8 s."""
        done = self.settings.data_dir / "airflow" / "migrated"
        if done.exists() and done.read_text() == _airflow_schema(metadata_url):
            return
        self._announce("Airflow: preparing its database (once, about 20 s)")
        log = self._logs / "airflow-migrate.log"
        with open_log(log) as output:
            migration = subprocess.Popen(
                (sys.executable, "-m", "airflow", "db", "migrate"),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if migration.wait():
                raise ConfigurationError(f"Airflow's database cannot be prepared; see {log}.")
        done.write_text(_airflow_schema(metadata_url))

    def _wait_for(self, is_there: Callable[[], bool], what: str, log: str) -> None:
        deadline = time.monotonic() + _READY_S
        while not is_there():
            time.sleep(_LOOK_S)
            if time.monotonic() > deadline:
                raise RetryLaterError(
                    f"{what} did not become ready within {_READY_S:g} s. Its log: {self._logs / log}.log"
                )


@contextmanager
def running_stack(settings: Settings, *, watch: bool = True, announce: Announce) -> Iterator[Stack]:
    """Yields the running system, and stops it when the block ends, however it ends.

    SIGTERM and SIGHUP end the block as Ctrl-C does (only in the main thread).

    Args:
        settings: The settings of the installation.
        watch: Whether the watcher runs too.
        announce: Called with a line for a person at each step.

    Raises:
        ConfigurationError: bloodcell already runs on this data folder, or its port is in use.
        RetryLaterError: Postgres or Airflow did not become ready in time.
    """
    make_data_folder(settings.data_dir)
    announce = _safe_announce(announce)
    with _only_one(settings), _signals_interrupt():
        stack = Stack(settings, watch=watch, announce=announce)
        try:
            stack.start()
            yield stack
        finally:
            with _signals_ignored():
                announce("Stopping")
                stack.stop()


def _safe_announce(announce: Announce) -> Announce:
    """Returns an `announce` that survives a closed terminal, because the system has to be stopped anyway."""

    def safe_announce(line: str) -> None:
        with suppress(OSError):
            announce(line)

    return safe_announce


def _airflow_schema(metadata_url: str) -> str:
    """Returns Airflow's release and the schema revision of its database, to show whether either has changed."""
    engine = sa.create_engine(metadata_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        has_schema = connection.scalar(sa.text("SELECT to_regclass('alembic_version')")) is not None
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) if has_schema else None
    return f"{version('apache-airflow-core')} {revision}"


def _responds(api: AirflowApi) -> bool:
    try:
        return api.health().get("metadatabase") == "healthy"
    except AirflowUnavailableError:
        return False


def _is_ready(api: AirflowApi) -> bool:
    try:
        health = api.health()
        if health.get("scheduler") != "healthy" or health.get("dag_processor") != "healthy":
            return False
        if errors := api.import_errors():
            raise ConfigurationError("A Dag cannot be imported:\n" + "\n".join(errors.values()))
        return set(dag_ids()) <= api.dags().keys()
    except AirflowUnavailableError:
        return False


def _refuse_taken_port(port: int, what: str, option: str, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} of {HOST} cannot be used for {what} ({error.strerror}). Stop the program that uses it, "
                f"or choose another port: `bloodcell up {option} {port + 1}`, or "
                f"BLOODCELL_{setting}=http://{HOST}:{port + 1}."
            ) from error


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Holds the lock of the data folder; its file tells other commands where Airflow is."""
    lock = up_lock(settings.data_dir)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            where = f", at {address}" if (address := served_address(settings.data_dir)) else ""
            raise ConfigurationError(
                f"bloodcell is already running on {settings.data_dir}{where}. Use it, or stop it first."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} {airflow_home(settings).url}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does."""
    with _handlers(signal.default_int_handler, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Keeps a second Ctrl-C from leaving processes behind; stopping takes a limited time."""
    with _handlers(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handlers(handler: signal._HANDLER, *signals: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
