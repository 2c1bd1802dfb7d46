"""The stage itself: folder by folder, files are examined in parallel while earlier ones are being written."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.cells.names import composed
from bloodcell.errors import ConfigurationError, RetryLaterError, StoreUnavailableError, UnusableFileError
from bloodcell.inbox.ignoring import ignore_reason
from bloodcell.inbox.listing import ListedFile, ListedFolder, list_folder
from bloodcell.inbox.night_folders import night_of
from bloodcell.inbox.settling import folders_changed_ns, is_settled, marker_changed_ns
from bloodcell.inbox.unchanged_files import StillWrittenError, read_unchanged
from bloodcell.ingest.control_marks import mark_control_slides
from bloodcell.ingest.examine import Examined, Examiner
from bloodcell.ingest.file_outcomes import SLIDE_RECORD
from bloodcell.ingest.ledger import SlideFiles, is_erased, note_gone, set_slide_aside, write_slide
from bloodcell.ingest.ledger_rows import FileRow, ignored, known_files, quarantined
from bloodcell.ingest.slide_record import MAX_RECORD_BYTES, SlideRecord, parse_slide_record
from bloodcell.presentation.numbers import counted
from bloodcell.quality_rules import read_quality_rules
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.decoding import ImageBounds
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_SQL: Final = load_statements("ingest/ingesting.sql")
_OF_THE_WHOLE_NIGHT: Final = (RetryLaterError, ConfigurationError)
"""Errors that every other slide would meet, too; any other error costs only its own slide."""

# files written in one transaction, after one sync of the store; small slides are written together. The number is large
# enough that waiting for the disk is short compared with examining, and small enough that a kill loses little work
_BATCH_FILES = 256
# files that a thread takes at a time; with one at a time, handing over cost as much as reading
_TASK_FILES = 16
# batches examined ahead of the one being written; with only one, the threads waited for a slow write
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What a night's folder contains after a run, according to the ledger.

    Attributes:
        night: The night.
        run_id: The run.
        n_files: All files, the sum of the next four.
        n_cells: Files that became cells.
        n_duplicates: Files whose image or cell was already known.
        n_quarantined: Files that were set aside.
        n_ignored: Files that a rule ignores.
        n_slides: Slides of the night.
        n_waiting_folders: Folders that are still being written; a later run reads them.
        n_erased_files: Files of erased slides, neither read nor in the ledger; the site removes them.
        failed: Slide, or "" for loose files -> the error that bloodcell did not expect. The others are ingested.
    """

    night: date
    run_id: UUID
    n_files: int
    n_cells: int
    n_duplicates: int
    n_quarantined: int
    n_ignored: int
    n_slides: int
    n_waiting_folders: int
    n_erased_files: int
    failed: Mapping[str, str]


def ingest_night(
    folder: Path,
    settings: Settings,
    *,
    airflow_run: str | None = None,
    on_files: Callable[[int], None] | None = None,
) -> IngestSummary:
    """Ingests one night's folder and returns what it contains; known files are not read again.

    Args:
        folder: The night's folder, named as `BLOODCELL_NIGHT_PATTERN` says.
        settings: Where everything is kept, and the bounds within which an image has to be.
        airflow_run: Id of the Dag run that this belongs to.
        on_files: Called with the number of files just accounted for.

    Returns:
        Counts over all files of the night, whichever run accounted for them.

    Raises:
        ConfigurationError: There is no such folder, its name is not a night's, or Postgres refuses the login.
        RetryLaterError: Postgres or the store is unavailable; run it again later, nothing is lost or counted twice.
    """
    night = night_of(folder, settings.night_pattern)
    database = open_database(settings, keep=True)
    try:
        with (
            recorded_run(database, "ingest", night=night, airflow_run=airflow_run) as run,
            closing(Store.of(settings)) as store,
        ):
            summary = _Ingest(folder, night, settings, database, store, run.run_id, on_files or (lambda _: None)).run()
            run.n_cells = summary.n_cells
            run.detail |= {"files": summary.n_files, "waiting_folders": summary.n_waiting_folders}
            if summary.n_erased_files:
                run.detail["erased_files"] = summary.n_erased_files
                log.warning(
                    "night %s: %d files of erased slides are still in the drops folder, and were not read; remove them",
                    night,
                    summary.n_erased_files,
                )
            if summary.failed:
                run.detail["failed"] = dict(summary.failed)
        return summary
    finally:
        database.dispose()


@dataclass(frozen=True, slots=True)
class _Record:
    """A slide's record as found; `row` is its ledger row if it cannot be used."""

    record: SlideRecord | None
    state: str
    row: FileRow | None = None
    contradiction: str | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some files of one folder: those to examine, and those whose outcome is known by a rule."""

    folder: ListedFolder
    record: _Record
    files: Sequence[ListedFile]
    others: Sequence[FileRow]
    n_files: int


_UnderWay = tuple[_Chunk, Sequence[Future[list[Examined]]]]


class _Ingest:
    def __init__(
        self,
        folder: Path,
        night: date,
        settings: Settings,
        database: Database,
        store: Store,
        run_id: UUID,
        on_files: Callable[[int], None],
    ) -> None:
        self._folder, self._night, self._settings = folder, night, settings
        self._database, self._store, self._run_id, self._on_files = database, store, run_id, on_files
        self._rules = read_quality_rules(settings.quality_file)
        self._examiner = Examiner(settings.drop_pattern, ImageBounds.of(settings), self._store)
        self._waiting: set[str] = set()
        self._set_aside: set[str] = set()
        self._failed: dict[str, str] = {}
        self._n_erased_files, self._has_unaccounted = 0, False

    def run(self) -> IngestSummary:
        try:
            changed_ns = folders_changed_ns(self._folder)
            marker_ns = marker_changed_ns(self._folder)
        except OSError as error:
            raise ConfigurationError(f"The night's folder {self._folder} cannot be read: {error}") from error
        self._transact(self._open_drop)
        with ThreadPoolExecutor(self._settings.reader_threads, thread_name_prefix="examine") as threads:
            under_way: deque[list[_UnderWay]] = deque()
            for batch in self._batches(marker_ns):
                under_way.append([(chunk, self._examining(chunk, threads)) for chunk in batch])
                if len(under_way) > _AHEAD:
                    self._write(under_way.popleft())
            while under_way:
                self._write(under_way.popleft())
        if not self._waiting:
            # before any model has seen a cell, and not while some slides are still written: each has the same chance
            self._transact(self._draw_sample)
        if not self._waiting and not self._has_unaccounted:
            self._transact(lambda connection: self._close_drop(connection, changed_ns))
        return self._transact(self._summary)

    def _batches(self, marker_ns: int | None) -> Iterator[list[_Chunk]]:
        batch: list[_Chunk] = []
        for chunk in self._chunks(marker_ns):
            batch.append(chunk)
            if sum(chunk.n_files for chunk in batch) >= _BATCH_FILES:
                yield batch
                batch = []
        if batch:
            yield batch

    def _chunks(self, marker_ns: int | None) -> Iterator[_Chunk]:
        for folder in list_folder(self._folder):
            if not is_settled(folder.newest_change_ns, marker_ns, self._settings.settle_s):
                self._waiting.add(folder.name)
                continue
            try:
                record = self._record(folder)
                if self._is_erased(folder, record):
                    self._n_erased_files += len(folder.files)
                    continue
                files = sorted(folder.files, key=self._examiner.order)
                for start in range(0, max(len(files), 1), _BATCH_FILES):
                    yield self._chunk(folder, files[start : start + _BATCH_FILES], record)
            except StillWrittenError:
                self._waiting.add(folder.name)
            except _OF_THE_WHOLE_NIGHT:
                raise
            except Exception as error:  # one slide must not cost the others of its night
                self._note_failure(folder.name, error)
                self._has_unaccounted = True

    def _chunk(self, folder: ListedFolder, files: Sequence[ListedFile], record: _Record) -> _Chunk:
        barcode = _barcode(folder)
        paths = [file.path for file in files]
        known = self._transact(lambda connection: known_files(connection, self._night, paths))
        others, unread = [], []
        for file in files:
            reason = ignore_reason(file.path)
            if reason is not None:
                others.append(ignored(file, barcode, reason))
            elif file.path == f"{folder.name}/{SLIDE_RECORD}":
                others.append(record.row or ignored(file, barcode, "slide_record"))
            elif not _is_accounted_for(known.get(file.path), file):
                unread.append(file)
        return _Chunk(folder, record, unread, others, len(files))

    def _is_erased(self, folder: ListedFolder, record: _Record) -> bool:
        barcode = _barcode(folder)
        return barcode is not None and self._transact(lambda connection: is_erased(connection, barcode, record.record))

    def _record(self, folder: ListedFolder) -> _Record:
        file = next((file for file in folder.files if file.path == f"{folder.name}/{SLIDE_RECORD}"), None)
        if file is None:
            return _Record(None, "absent")
        try:
            if file.problem is not None:
                raise UnusableFileError("slide_record", f"expected a regular file, received: {file.problem}")
            record = parse_slide_record(read_unchanged(file, MAX_RECORD_BYTES), composed(folder.name))
            return _Record(record, "read")
        except UnusableFileError as error:
            row = quarantined(file, composed(folder.name), error.reason, error.detail)
            contradiction = error.detail if error.reason == "slide_identity" else None
            return _Record(None, "unreadable", row, contradiction)

    def _examining(self, chunk: _Chunk, threads: ThreadPoolExecutor) -> list[Future[list[Examined]]]:
        tasks = [chunk.files[start : start + _TASK_FILES] for start in range(0, len(chunk.files), _TASK_FILES)]
        return [threads.submit(self._examined, chunk.folder, files) for files in tasks]

    def _examined(self, folder: ListedFolder, files: Sequence[ListedFile]) -> list[Examined]:
        examined = []
        for file in files:
            try:
                examined.append(self._examiner.examine(file))
            except StillWrittenError:
                self._waiting.add(folder.name)
        return examined

    def _write(self, batch: Sequence[_UnderWay]) -> None:
        slides: list[SlideFiles] = []
        for chunk, examining in batch:
            slides += _by_slide(chunk, [file for future in examining for file in future.result()])
        if any(file.image for slide in slides for file in slide.examined):
            self._store.flush()

        try:
            self._set_aside.update(self._written(slides))
        except _OF_THE_WHOLE_NIGHT:
            raise
        except Exception:
            for slide in slides:  # one by one, to find the slide that cannot be written
                self._write_alone(slide)
        self._on_files(sum(chunk.n_files for chunk, _ in batch))

    def _written(self, slides: Sequence[SlideFiles]) -> list[str]:
        def write(connection: sa.Connection) -> list[str]:
            of_night, same_pixels = (connection, self._run_id, self._night), self._examiner.same_pixels
            set_aside = [path for slide in slides for path in write_slide(*of_night, slide, same_pixels)]
            self._refuse_lost_images(connection, slides)
            return set_aside

        return self._transact(write)

    def _refuse_lost_images(self, connection: sa.Connection, slides: Sequence[SlideFiles]) -> None:
        """Refuses to refer to an image that an erasure, or its age, removed after it was stored here."""
        images = sorted({file.image.sha256 for slide in slides for file in slide.examined if file.image})
        once_removed = connection.scalars(_SQL["keep_again"], {"images": images}).all()
        doubtful = images if connection.scalar(_SQL["may_have_lost_images"], {"run_id": self._run_id}) else once_removed
        if lost := [sha256 for sha256 in doubtful if not self._store.has_image(sha256)]:
            raise StoreUnavailableError(
                f"{counted(len(lost), 'image')} that this night brings again was just removed from the store. Run this "
                "again: it stores what is missing, and nothing is counted twice."
            )

    def _write_alone(self, slide: SlideFiles) -> None:
        """Writes a slide's rows; a slide that cannot be written is set aside, and if that fails too, is only named."""
        try:
            self._set_aside.update(self._written([slide]))
        except _OF_THE_WHOLE_NIGHT:
            raise
        except Exception as error:
            self._note_failure(slide.barcode or "", error)
            aside = (self._run_id, self._night, slide, "unexpected_error", type(error).__name__)
            try:
                self._set_aside.update(self._transact(lambda connection: set_slide_aside(connection, *aside)))
            except _OF_THE_WHOLE_NIGHT:
                raise
            except Exception:
                self._has_unaccounted = True
                log.exception("slide %s of night %s is not in the ledger", slide.barcode, self._night)

    def _note_failure(self, slide: str, error: Exception) -> None:
        self._failed[slide] = type(error).__name__  # a database's message may contain values of slide.json
        log.error("slide %s of night %s could not be ingested", slide, self._night, exc_info=error)

    def _open_drop(self, connection: sa.Connection) -> None:
        row = {"night": self._night, "folder": self._folder.name, "run_id": self._run_id}
        connection.execute(insert(tables.drop).values(row).on_conflict_do_nothing())

    def _draw_sample(self, connection: sa.Connection) -> None:
        mark_control_slides(connection, self._night, self._rules, self._run_id)  # the sample is of patients' cells
        values = {"night": self._night, "n": self._settings.sample_cells, "run_id": self._run_id}
        connection.execute(_SQL["draw_sample"], values)

    def _close_drop(self, connection: sa.Connection, changed_ns: int) -> None:
        note_gone(connection, self._run_id, self._night, self._set_aside)
        drop = tables.drop
        done = {"completed_at": sa.func.now(), "folders_changed_ns": changed_ns}
        connection.execute(sa.update(drop).where(drop.c.night == self._night).values(**done))

    def _summary(self, connection: sa.Connection) -> IngestSummary:
        night = {"night": self._night}
        n = {outcome: count for outcome, count in connection.execute(_SQL["files"], night)}
        return IngestSummary(
            night=self._night,
            run_id=self._run_id,
            n_files=sum(n.values()),
            n_cells=n.get("cell", 0),
            n_duplicates=n.get("duplicate", 0),
            n_quarantined=n.get("quarantined", 0),
            n_ignored=n.get("ignored", 0),
            n_slides=connection.execute(_SQL["n_slides"], night).scalar_one(),
            n_waiting_folders=len(self._waiting),
            n_erased_files=self._n_erased_files,
            failed=dict(self._failed),
        )

    def _transact(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        return self._database.transact(work)


def _is_accounted_for(known: FileRow | None, file: ListedFile) -> bool:
    # a file that was set aside or gone is examined again: a setting or the pattern may have been corrected since
    return (
        known is not None
        and known.outcome != "quarantined"
        and known.reason != "gone"
        and (known.size_bytes, known.changed_ns) == (file.size_bytes, file.changed_ns)
    )


def _barcode(folder: ListedFolder) -> str | None:
    """Returns the slide that a folder is named after; None for the loose files and for an ignored folder."""
    return None if not folder.name or ignore_reason(folder.name) else composed(folder.name)


def _by_slide(chunk: _Chunk, examined: Sequence[Examined]) -> list[SlideFiles]:
    own = _barcode(chunk.folder)
    by_barcode: dict[str | None, list[Examined]] = {own: []}
    for file in examined:
        by_barcode.setdefault(file.cell.barcode if file.cell else own, []).append(file)
    record = chunk.record
    return [
        SlideFiles(barcode, record.record, record.state, record.contradiction, files, chunk.others)
        if barcode == own
        else SlideFiles(barcode, None, "absent", None, files, ())
        for barcode, files in by_barcode.items()
    ]
