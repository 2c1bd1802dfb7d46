"""Watches the drops folder and announces each completely written night to Airflow, once for each state of the night.

Every few seconds the watcher lists the drops folder and asks the newest nights when they last changed. Events of the
file system only make it look sooner, so nothing depends on them: a share that sends none, a lost event and the system's
limit on watches only cost seconds. They come from the drops folder and the newest nights, not from the slides, whose
number has no bound. Older nights are compared with the ledger at the start and every ten minutes, and by the Dag's own
cron.

Whether a night is complete is read from its folder. An announcement is a Dag run whose id consists of the night and the
time of its newest file, so Airflow itself refuses a second one.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from bloodcell.errors import BloodcellError
from bloodcell.inbox.night_folders import DropsFolder, completed_state, night_of, read_drops
from bloodcell.inbox.pending_nights import pending_nights
from bloodcell.inbox.settling import COMPLETE_MARKER, folders_changed_ns
from bloodcell.service.airflow_api import NIGHTLY_RUN, AirflowApi
from bloodcell.service.airflow_session import AirflowRefusedError
from bloodcell.service.telemetry import ALIVE, pushed_metrics
from bloodcell.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watchdog.observers.api import BaseObserver, ObservedWatch

    from bloodcell.service.processes import Announce
    from bloodcell.settings import Settings

SWEEP_S: Final = 600.0
SWEEP_AGAIN_S: Final = 30.0
"""Seconds between a failed sweep and the next one."""
N_NEWEST: Final = 8
"""Nights whose changes are noticed at once; a change of an older night is found by the sweep.

Each costs two threads and one of the system's inotify instances, of which Debian 12 allows 128 per user.
"""
_DROPS: Final = "the drops folder"
_WRITING: Final[list[type[FileSystemEvent]]] = [
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""Events of interest. Those of reading are left out: ingest reads every file, but changes none."""


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
        self._changed_ns: dict[str, int] = {}
        self._announced: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self._wake = threading.Event()
        self._sweep_at = float("-inf")
        self._events = _Events(self._wake)

    def watch(self, stop: threading.Event) -> None:
        """Watches until `stop` is set; a problem is announced once, and what failed is retried until it succeeds."""
        drops = self._settings.drops
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        how = "by polling" if self._settings.watch_polling else "by native events"
        self._announce(f"Watching {drops} {how}; nights are announced to {self._settings.airflow_url}")
        try:
            with AirflowApi(self._settings) as api:
                while not stop.is_set():
                    self._wake.clear()
                    found = DropsFolder({}, {})
                    with self._problems_announced(_DROPS):
                        found = read_drops(self._settings)
                        self._look_for_changes(found)
                    self._mark_alive()
                    for name in sorted(self._open):
                        with self._problems_announced(f"night {name}"):
                            self._look(api, drops / name)
                        self._mark_alive()
                    self._wake.wait(self._settings.watch_interval_s)
        finally:
            self._events.stop()

    def wake(self) -> None:
        """Makes the watcher look at once; safe in a signal handler."""
        self._wake.set()

    def _mark_alive(self) -> None:
        if _DROPS not in self._problems:
            (self._settings.data_dir / ALIVE).touch()

    def _look_for_changes(self, found: DropsFolder) -> None:
        """Opens the nights that may have changed, and names what in the drops folder is no night."""
        self._name_misplaced(found)
        folders = list(found.nights.values())
        self._open &= {folder.name for folder in folders}
        newest = folders[-N_NEWEST:]
        is_first_look = not self._sweep_at > float("-inf")
        for folder in newest:
            with self._problems_announced(f"the changes of night {folder.name}"):
                changed_ns = folders_changed_ns(folder)
                if self._changed_ns.get(folder.name) != changed_ns and not is_first_look:
                    self._open.add(folder.name)
                self._changed_ns[folder.name] = changed_ns
        if time.monotonic() >= self._sweep_at:
            with self._problems_announced("the search for nights"):
                self._sweep(found)
        if not self._settings.watch_polling:
            with self._problems_announced("native events"):
                self._events.come_from([self._settings.drops, *newest])

    def _name_misplaced(self, found: DropsFolder) -> None:
        """Announces each entry of the drops folder that is no night, once."""
        for name, problem in found.problems.items():
            if self._problems.get(f"misplaced {name}") != problem:
                self._announce(f"In the drops folder: {name}: {problem}")
        self._problems = {what: why for what, why in self._problems.items() if not what.startswith("misplaced ")}
        self._problems |= {f"misplaced {name}": problem for name, problem in found.problems.items()}

    def _look(self, api: AirflowApi, folder: Path) -> None:
        """Announces a night if it is complete and its present state has not been announced yet."""
        try:
            state = completed_state(folder, self._settings.settle_s)
        except FileNotFoundError:
            state = ""
        if state is None:
            return
        if state and self._announced.get(folder.name) != state:
            self._trigger(api, folder, state)
            self._announced[folder.name] = state
        self._open.discard(folder.name)

    def _trigger(self, api: AirflowApi, folder: Path, state: str) -> None:
        night = night_of(folder, self._settings.night_pattern).isoformat()
        try:
            run_id = api.trigger(NIGHTLY_RUN, conf={"night": night}, run_id=f"watch__{night}__{state}")
        except AirflowRefusedError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            self._announce(f"Night {night} was already announced")
        else:
            self._announce(f"Night {night} is complete: run {run_id} started")

    def _sweep(self, found: DropsFolder) -> None:
        """Opens the nights that had no event; without a database, only the newest ones."""
        folders = list(found.nights.values())[-N_NEWEST:]
        self._sweep_at = time.monotonic() + SWEEP_AGAIN_S
        try:
            impatient = self._settings.model_copy(update={"database_patience_s": 0})
            folders = pending_nights(impatient, open_database(impatient))
            self._sweep_at = time.monotonic() + SWEEP_S
        finally:
            self._open.update(folder.name for folder in folders)

    @contextmanager
    def _problems_announced(self, what: str) -> Iterator[None]:
        """Announces a problem when it begins or changes, and when it ends; the watcher continues."""
        try:
            yield
        except Exception as error:  # one folder must not stop the watch over the others
            expected = isinstance(error, (BloodcellError, OSError))
            message = str(error) if expected else f"an unexpected {type(error).__name__}: {error}"
            if self._problems.get(what) != message:
                self._announce(f"Problem with {what}, retried every {self._settings.watch_interval_s:g} s: {message}")
            self._problems[what] = message
        else:
            if self._problems.pop(what, None):
                self._announce(f"{what[0].upper()}{what[1:]}: working again")


class _Events:
    """Native events of some folders, without their sub-folders; each of them only wakes the watcher."""

    def __init__(self, wake: threading.Event) -> None:
        self._handler = _Wakes(wake)
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, tuple[tuple[int, int], ObservedWatch]] = {}

    def come_from(self, folders: Sequence[Path]) -> None:
        """Makes sure that events come from exactly these folders, also if one of them was replaced.

        Raises:
            OSError: The system allows no more watches; the message says what to change.
        """
        if self._observer is None or not self._observer.is_alive():
            self.stop()
            self._observer = Observer()
            self._observer.start()
        there = {}
        for folder in folders:
            with suppress(OSError):  # it went away, or cannot be read: the watcher says so
                status = folder.stat()
                there[folder] = (status.st_dev, status.st_ino)
        for folder in [folder for folder, (identity, _) in self._watched.items() if there.get(folder) != identity]:
            _, watch = self._watched.pop(folder)
            with suppress(KeyError):  # watchdog gave up the watch of a folder that was removed
                self._observer.unschedule(watch)
        for folder, identity in there.items():
            if folder not in self._watched:
                self._watched[folder] = (identity, self._watch(self._observer, folder))

    def stop(self) -> None:
        """Ends all events."""
        if self._observer and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        self._observer = None
        self._watched = {}

    def _watch(self, observer: BaseObserver, folder: Path) -> ObservedWatch:
        try:
            return observer.schedule(self._handler, str(folder), recursive=False, event_filter=_WRITING)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EMFILE):
                raise
            limit = "max_user_watches" if error.errno == errno.ENOSPC else "max_user_instances"
            raise OSError(
                f"the system allows no more watches ({error.strerror}); nights are still found, only later. An "
                f"administrator can raise it: sysctl fs.inotify.{limit}"
            ) from error


class _Wakes(FileSystemEventHandler):
    """Wakes the watcher for a new night, and for a night's marker; anything else can wait for the next look."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        names = [Path(os.fsdecode(path)).name for path in (event.src_path, event.dest_path) if path]
        if event.is_directory or COMPLETE_MARKER in names:
            self._wake.set()


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
