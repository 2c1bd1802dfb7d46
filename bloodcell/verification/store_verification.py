"""Compares every object of the store with its digest, and heals what is damaged from good copies.

Nothing that is good is overwritten, and no object is removed. An object that no row refers to is listed once it is a
day old: ingest stores an image before it writes the image's row.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from bloodcell.errors import StoreUnavailableError
from bloodcell.storage.atomic_write import is_part, remove_part
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store
from bloodcell.verification.expected_objects import (
    IMAGE_PREFIXES,
    Expected,
    UsedBy,
    cells_of,
    count_images,
    expected_bundles,
    expected_images,
    expected_reports,
    set_aside_images,
    still_wanted,
)
from bloodcell.verification.good_copies import Source, good_copy, sources
from bloodcell.verification.stale_parts import is_old, stale_parts

if TYPE_CHECKING:
    import sqlalchemy as sa

    from bloodcell.presentation.progress import ShowStep
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

Problem = Literal["missing", "truncated", "altered", "unreadable"]

STAGE: Final = "verify_store"
_MAX_NAMED: Final = 1_000
_MAX_RECORDED: Final = 100
# more threads gain nothing on one disk, and readers of the night need it too
_MAX_THREADS: Final = 4
_NICENESS: Final = 10  # Linux derives the priority of reading and writing from it
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that is not what its place says.

    Attributes:
        place: Where it is in the store.
        problem: missing, truncated, altered or unreadable.
        belongs_to: The model that it is part of; empty for an image.
        used_by: The first ten cells that show the image.
        healed_from: Where the copy came from that replaced it; None if it is still damaged.
        not_healed: Why it is still damaged; empty if it is not, or if no repair was asked for.
    """

    place: str
    problem: Problem
    belongs_to: str
    used_by: tuple[UsedBy, ...]
    healed_from: str | None
    not_healed: str


@dataclass(frozen=True, slots=True)
class StoreVerification:
    """The result of a verification; the lists name the first thousand.

    Attributes:
        run_id: The run.
        store: Path or URL of the store.
        n_objects: Objects that the database refers to, all of which were read.
        n_bytes: Their bytes.
        n_damaged: Of n_objects, those that were damaged.
        n_healed: Of n_damaged, those that were healed.
        n_orphans: Objects older than a day that the database does not refer to; they stay.
        n_stale_parts: Unfinished files of killed writers, older than a day.
        n_parts_removed: Of n_stale_parts, those that were removed.
        damaged: What was damaged.
        orphans: Where the orphans are in the store.
    """

    run_id: UUID
    store: str
    n_objects: int
    n_bytes: int
    n_damaged: int
    n_healed: int
    n_orphans: int
    n_stale_parts: int
    n_parts_removed: int
    damaged: tuple[Damage, ...]
    orphans: tuple[str, ...]

    @property
    def n_left(self) -> int:
        """Objects that are still damaged."""
        return self.n_damaged - self.n_healed


def verify_store(
    settings: Settings,
    *,
    repair: bool = False,
    others: Sequence[str] = (),
    airflow_run: str | None = None,
    on_progress: ShowStep | None = None,
) -> StoreVerification:
    """Reads every object of the store that the database refers to, and returns what is damaged and what was healed.

    Memory does not grow with the number of objects. The result is recorded in the view `store_verification`.

    Args:
        settings: Where the store, the database and the drops are.
        repair: Whether to replace damaged objects by good copies, and to remove unfinished files older than a day.
        others: Further folders of nights, and paths or URLs of other stores, to look for good copies.
        airflow_run: Id of the Dag run that this belongs to.
        on_progress: Called with "objects", their number so far, and all that are expected.

    Raises:
        StoreUnavailableError: The store cannot be reached; nothing was changed.
        DatabaseUnavailableError: Postgres is unavailable.
        ConfigurationError: One of `others` is neither a folder nor a store.
    """
    database = open_database(settings, keep=True)
    try:
        good = sources(settings, database, others) if repair else []
        with recorded_run(database, STAGE, airflow_run=airflow_run) as run:
            found = _Verification(settings, database, run.run_id, good, on_progress or _silent, repair=repair).run()
            counts = {name: number for name, number in asdict(found).items() if name.startswith("n_")}
            # without barcodes: they are in the rows, and an erased one must not stay here
            run.detail |= {
                **counts,
                "repair": repair,
                "damaged": [
                    {"place": each.place, "problem": each.problem, "is_healed": each.healed_from is not None}
                    for each in found.damaged[:_MAX_RECORDED]
                ],
            }
        return found
    finally:
        database.dispose()


class _Verification:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        run_id: UUID,
        good: Sequence[Source],
        on_progress: ShowStep,
        *,
        repair: bool,
    ) -> None:
        self._settings, self._database, self._run_id = settings, database, run_id
        self._good, self._on_progress, self._repair = good, on_progress, repair
        self._store = Store.of(settings)
        self._objects = self._store.objects
        self._n_expected = self._n_objects = self._n_bytes = 0
        self._n_damaged = self._n_healed = self._n_orphans = self._n_stale = self._n_removed = 0
        self._damaged: list[Damage] = []
        self._orphans: list[str] = []

    def run(self) -> StoreVerification:
        bundles = self._database.transact(expected_bundles)
        reports = self._database.transact(expected_reports)
        n_images = self._database.transact(count_images)
        self._n_expected = sum(n_images.values()) + sum(
            len(files) for group in (bundles, reports) for files in group.values()
        )
        if self._n_expected:
            self._store.check()
        n_threads = min(self._settings.reader_threads, _MAX_THREADS)
        with ThreadPoolExecutor(n_threads, thread_name_prefix="verify", initializer=_be_nice) as threads:
            for kind, group in (("models", bundles), ("reports", reports)):
                for model_id, files in group.items():
                    self._verify(f"{kind}/{model_id}", files, threads)
                self._look_at_others(kind, group)
            for prefix in sorted(n_images.keys() | (IMAGE_PREFIXES & {*self._objects.names("images")})):
                set_aside = self._database.transact(lambda c, prefix=prefix: set_aside_images(c, prefix))  # type: ignore[misc]
                self._verify(f"images/{prefix}", self._images(prefix), threads, set_aside)
            self._look_at_others("images", IMAGE_PREFIXES)
        self._look_at_data_folder()
        return self._result()

    def _images(self, prefix: str) -> list[Expected]:
        return self._database.transact(lambda connection: expected_images(connection, prefix))

    def _verify(
        self, folder: str, expected: Sequence[Expected], threads: ThreadPoolExecutor, others: Set[str] = frozenset()
    ) -> None:
        """Verifies the objects of a folder, which were expected before it is listed: what comes now is no orphan."""
        self._look_at_others(folder, {each.name for each in expected} | others)
        for start in range(0, len(expected), _BATCH):
            batch = expected[start : start + _BATCH]
            examined = list(threads.map(self._examined, batch))
            self._n_bytes += sum(n_bytes for _, n_bytes in examined)
            self._note([(each, problem) for each, (problem, _) in zip(batch, examined, strict=True) if problem])
            self._n_objects += len(batch)
            self._on_progress("objects", self._n_objects, max(self._n_expected, self._n_objects))

    def _examined(self, wanted: Expected) -> tuple[Problem | None, int]:
        """Returns what is wrong with an object, if anything, and how many bytes it has."""
        try:
            found = self._objects.digest(wanted.place)
        except OSError:
            return "unreadable", 0
        if found is None:
            return "missing", 0
        if found.sha256.startswith(wanted.digest):
            return None, found.size_bytes
        return "truncated" if found.size_bytes < (wanted.size_bytes or 0) else "altered", found.size_bytes

    def _note(self, damaged: Sequence[tuple[Expected, Problem]]) -> None:
        if not damaged:
            return
        self._store.check()  # an unmounted share looks as if everything were missing
        for wanted, problem in damaged:
            outcome = self._database.transact(lambda connection, wanted=wanted: self._handled(connection, wanted))  # type: ignore[misc]
            if outcome is None:
                continue  # erased since it was listed
            healed_from, not_healed = outcome
            self._n_damaged += 1
            self._n_healed += healed_from is not None
            if len(self._damaged) < _MAX_NAMED:
                found = Damage(wanted.place, problem, wanted.belongs_to, self._used_by(wanted), healed_from, not_healed)
                self._damaged.append(found)

    def _handled(self, connection: sa.Connection, wanted: Expected) -> tuple[str | None, str] | None:
        """Heals a damaged object if that was asked for; None if it does not have to be stored any more."""
        if wanted.is_image and not still_wanted(connection, [wanted.name]):
            return None
        return self._healed(wanted) if self._repair else (None, "")

    def _used_by(self, wanted: Expected) -> tuple[UsedBy, ...]:
        return self._database.transact(lambda connection: cells_of(connection, wanted.name)) if wanted.is_image else ()

    def _healed(self, wanted: Expected) -> tuple[str | None, str]:
        """Returns where the good copy came from, or why the object is still damaged."""
        copy = good_copy(wanted, self._good)
        if copy is None:
            return None, "no good copy was found"
        body, source = copy
        if self._examined(wanted)[0] is None:
            return "another writer", ""
        try:
            self._objects.replace(wanted.place, body)
        except StoreUnavailableError as error:
            return None, str(error)
        if self._examined(wanted)[0] is not None:
            return None, f"the store does not keep what is written: the copy from {source} is damaged there, too"
        return source, ""

    def _look_at_others(self, folder: str, expected: Collection[str]) -> None:
        """Lists what is in a folder and not expected there, if it is old enough to have no writer any more."""
        for name in self._objects.names(folder):
            place = f"{folder}/{name}"
            if name in expected or not is_old(self._objects.changed_at(place)):
                continue
            if is_part(name):
                self._n_stale += 1
                if self._repair:
                    self._objects.remove_part(place)
                    self._n_removed += 1
            else:
                self._n_orphans += 1
                if len(self._orphans) < _MAX_NAMED:
                    self._orphans.append(place)

    def _look_at_data_folder(self) -> None:
        for path in stale_parts(self._settings):
            self._n_stale += 1
            if self._repair:
                remove_part(path)
                self._n_removed += 1

    def _result(self) -> StoreVerification:
        return StoreVerification(
            run_id=self._run_id,
            store=self._settings.store,
            n_objects=self._n_objects,
            n_bytes=self._n_bytes,
            n_damaged=self._n_damaged,
            n_healed=self._n_healed,
            n_orphans=self._n_orphans,
            n_stale_parts=self._n_stale,
            n_parts_removed=self._n_removed,
            damaged=tuple(self._damaged),
            orphans=tuple(self._orphans),
        )


def _be_nice() -> None:
    if sys.platform == "linux":  # where a priority belongs to a thread, not to the whole process
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)


def _silent(step: str, done: int, total: int) -> None:
    pass
