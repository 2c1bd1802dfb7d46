"""Watches the drops folder and announces each completely written night to Airflow, once for each state of the night.

Events of the file system say only where to look; whether a night is complete is read from the folder. An announcement
is a Dag run whose id consists of the night and the time of its newest file, so Airflow itself refuses a second one.
Nights without an event (the watcher was down, or a share sent none) are found by a sweep at the start and every ten
minutes, and by the Dag's own cron.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from watchdog.events import EVENT_TYPE_CLOSED_NO_WRITE, EVENT_TYPE_OPENED, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserverVFS

from bloodcell.errors import BloodcellError
from bloodcell.inbox.night_folders import completed_state, night_folders
from bloodcell.inbox.pending_nights import pending_nights
from bloodcell.inbox.settling import COMPLETE_MARKER
from bloodcell.service.airflow_api import NIGHTLY_RUN, AirflowApi, AirflowRefusedError
from bloodcell.service.telemetry import ALIVE, pushed_metrics
from bloodcell.storage.database import open_database

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

    from bloodcell.service.processes import Announce
    from bloodcell.settings import Settings

SWEEP_S: Final = 600.0
SWEEP_AGAIN_S: Final = 30.0
"""Seconds between a failed sweep and the next one."""
_READING: Final = (EVENT_TYPE_OPENED, EVENT_TYPE_CLOSED_NO_WRITE)  # ingest reads every file, but changes none
_DROPS: Final = "the drops folder"


class Watcher:
    """Keeps track of the nights that may have changed, and announces those that are complete.

    Args:
        settings: The drops folder, Airflow's address, and how to watch.
        announce: Called with a line for a person.
    """

    def __init__(self, settings: Settings, *, announce: Announce) -> None:
        self._settings = settings
        self._announce = announce
        self._open: set[str] = set()
        self._open_lock = threading.Lock()
        self._announced: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self._wake = threading.Event()
        self._sweep_at = float("-inf")
        self._observer: BaseObserver | None = None
        self._folder_identity: tuple[int, int] | None = None

    def watch(self, stop: threading.Event) -> None:
        """Watches until `stop` is set; a problem is announced once, and what failed is retried until it succeeds."""
        drops = self._settings.drops
        drops.mkdir(parents=True, exist_ok=True)
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        how = "by polling" if self._settings.watch_polling else "by native events"
        self._announce(f"Watching {drops} {how}; nights are announced to {self._settings.airflow_url}")
        try:
            with AirflowApi(self._settings) as api:
                while not stop.is_set():
                    with self._problems_announced(_DROPS):
                        self._observe(drops)
                    if time.monotonic() >= self._sweep_at:
                        with self._problems_announced("the search for nights"):
                            self._sweep(drops)
                    self._mark_alive()
                    for night in self._open_nights():
                        with self._problems_announced(f"night {night}"):
                            self._look(api, drops / night)
                        self._mark_alive()
                    self._wake.wait(self._settings.watch_interval_s)
                    self._wake.clear()
        finally:
            self._stop_observer()

    def _mark_alive(self) -> None:
        if _DROPS not in self._problems:
            (self._settings.data_dir / ALIVE).touch()

    def wake(self) -> None:
        """Makes the watcher look at once; safe in a signal handler."""
        self._wake.set()

    def note(self, path: Path) -> None:
        """Records that something at `path` changed."""
        with suppress(ValueError, IndexError):
            night = path.relative_to(self._settings.drops).parts[0]
            with self._open_lock:
                self._open.add(night)
        if path.name == COMPLETE_MARKER:
            self._wake.set()

    def _open_nights(self) -> list[str]:
        with self._open_lock:
            return sorted(self._open)

    def _look(self, api: AirflowApi, folder: Path) -> None:
        """Announces a night if it is complete and its present state has not been announced yet."""
        try:
            state = completed_state(folder, self._settings.settle_s) if folder in night_folders(folder.parent) else ""
        except FileNotFoundError:
            state = ""
        if state is None:
            return
        with self._open_lock:
            self._open.discard(folder.name)  # before the announcement: a change during it opens the night again
        if not state or self._announced.get(folder.name) == state:
            return
        try:
            self._trigger(api, folder.name, state)
        except BaseException:
            with self._open_lock:
                self._open.add(folder.name)
            raise
        self._announced[folder.name] = state

    def _trigger(self, api: AirflowApi, night: str, state: str) -> None:
        try:
            run_id = api.trigger(NIGHTLY_RUN, conf={"night": night}, run_id=f"watch__{night}__{state}")
        except AirflowRefusedError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            self._announce(f"Night {night} was already announced")
        else:
            self._announce(f"Night {night} is complete: run {run_id} started")

    def _sweep(self, drops: Path) -> None:
        """Opens the nights that had no event; without a database, all nights: announcing one again does no harm."""
        folders: list[Path] = []
        self._sweep_at = time.monotonic() + SWEEP_AGAIN_S
        try:
            impatient = self._settings.model_copy(update={"database_patience_s": 0})
            folders = pending_nights(impatient, open_database(impatient))
            self._sweep_at = time.monotonic() + SWEEP_S
        except BloodcellError:
            folders = night_folders(drops)
            raise
        finally:
            with self._open_lock:
                self._open.update(folder.name for folder in folders)

    def _observe(self, drops: Path) -> None:
        """Makes sure that the present drops folder is observed, because a share may have been mounted again."""
        status = drops.stat()
        identity = (status.st_dev, status.st_ino)
        if self._observer and self._observer.is_alive() and identity == self._folder_identity:
            return
        if self._observer:
            self._announce(f"{drops} was replaced: watching the new folder")
            self._sweep_at = float("-inf")
        self._stop_observer()
        polling = self._settings.watch_polling
        observer = _polling_observer(self._settings.watch_interval_s) if polling else Observer()
        observer.schedule(_Notes(self.note), str(drops), recursive=True)
        observer.start()
        self._observer, self._folder_identity = observer, identity

    def _stop_observer(self) -> None:
        if self._observer and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        self._observer = None

    @contextmanager
    def _problems_announced(self, what: str) -> Iterator[None]:
        """Announces a problem when it begins or changes, and when it ends; the watcher continues."""
        try:
            yield
        except (BloodcellError, OSError) as error:
            message = str(error)
            if self._problems.get(what) != message:
                self._announce(f"Problem with {what}, retried every {self._settings.watch_interval_s:g} s: {message}")
            self._problems[what] = message
        else:
            if self._problems.pop(what, None):
                self._announce(f"{what[0].upper()}{what[1:]}: working again")


class _Notes(FileSystemEventHandler):
    def __init__(self, note: Callable[[Path], None]) -> None:
        self._note = note

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _READING:
            for path in (event.src_path, event.dest_path):
                if path:
                    self._note(Path(path.decode() if isinstance(path, bytes) else path))


def _polling_observer(interval_s: float) -> BaseObserver:
    # watchdog's own PollingObserver follows links: two links to a parent folder turned a few files into 130,000 entries
    return PollingObserverVFS(os.lstat, os.scandir, polling_interval=interval_s)


def watch_drops(settings: Settings, *, announce: Announce) -> None:
    """Announces the nights of the drops folder to Airflow until Ctrl-C or SIGTERM.

    Args:
        settings: The drops folder, Airflow's address, and how to watch.
        announce: Called with a line for a person.
    """
    stop = threading.Event()
    watcher = Watcher(settings, announce=announce)

    def end(_signal: int, _frame: object) -> None:
        stop.set()
        watcher.wake()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with pushed_metrics(settings):
        watcher.watch(stop)
