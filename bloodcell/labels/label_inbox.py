"""The label inbox: what lies in it is taken in, or set aside with the reason; nothing is moved or deleted.

The ledger `label_file` knows each file by its content, so none is judged twice unless it changes, or was set aside for
cells that were not there and something has been ingested since. A folder sorted by class is named for the person who
sorted it.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import ConfigurationError, UnusableFileError
from bloodcell.inbox.night_folders import is_settled
from bloodcell.inbox.walk import DropFile, walk_night
from bloodcell.ingest.examine import StillWrittenError
from bloodcell.ingest.file_outcomes import ignore_reason
from bloodcell.labels.class_folders import FolderDigest, FolderLabels, labelled_files
from bloodcell.labels.codes import meaning_of
from bloodcell.labels.csv_rows import CsvLabels
from bloodcell.labels.importing import Labels, RefusedRowsError, take
from bloodcell.labels.label_outcomes import unusable
from bloodcell.labels.label_rows import BadRowError, checked_person
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import Run, recorded_run

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

MAX_FILE_BYTES: Final = 512 * 2**20
"""Largest CSV file of the inbox, some five million rows: it is read whenever the inbox is looked at."""

_UNFINISHED: Final = (".tmp", ".part", ".partial", ".filepart", ".crdownload", "~")


@dataclass(frozen=True, slots=True)
class InboxFile:
    """What became of a file or folder of the inbox.

    Attributes:
        path: Its name within the inbox.
        outcome: imported, quarantined.
        reason: Why it was set aside.
        n_rows: Labels in it.
        n_labels: Of them new.
    """

    path: str
    outcome: str
    reason: str | None
    n_rows: int
    n_labels: int


@dataclass(frozen=True, slots=True)
class InboxResult:
    """What a look into the inbox brought.

    Attributes:
        files: Files and folders judged now; on behalf of a Dag run, also by its earlier tries.
        n_known: Judged before, and nothing has changed.
        n_waiting: Still being written.
    """

    files: tuple[InboxFile, ...]
    n_known: int
    n_waiting: int

    @property
    def quarantined(self) -> tuple[InboxFile, ...]:
        return tuple(file for file in self.files if file.outcome == "quarantined")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or folder of the inbox as it is now; `labels` reads it, `refused` says why it is not even read."""

    path: str
    location: Path
    sha256: str
    labels: Labels | None = None
    refused: UnusableFileError | None = None


def import_inbox(settings: Settings, *, airflow_run: str | None = None) -> InboxResult:
    """Imports what is new in the label inbox, each file wholly or not at all; one that is wrong holds up none.

    Args:
        settings: Where the inbox is, and how long a file has to have been left alone.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Raises:
        ConfigurationError: The inbox is there and cannot be read.
        RetryLaterError: Postgres is away.
    """
    database = open_database(settings)
    files: list[InboxFile] = []
    n_known = n_waiting = 0
    for entry in _entries(settings):
        if entry is None:
            n_waiting += 1
            continue
        known = database.transact(functools.partial(_known, entry=entry))
        if known and (airflow_run is None or known[1] != airflow_run):
            n_known += 1
            continue
        file = known[0] if known else _judged(database, entry, airflow_run)
        if file is None:
            n_waiting += 1
        else:
            files.append(file)
    return InboxResult(tuple(files), n_known, n_waiting)


def _entries(settings: Settings) -> Iterator[_Entry | None]:
    """Yields what lies in the inbox; None for what is still being written."""
    inbox = settings.labels
    if not inbox.exists():
        return
    try:
        for folder in walk_night(inbox):
            if not folder.name:
                for file in folder.files:
                    if not _is_left_out(file.path):
                        settled = is_settled(file.changed_ns, None, settings.settle_s)
                        yield _file_entry(file) if settled else None
            elif not _is_left_out(folder.name):
                settled = is_settled(folder.newest_change_ns, None, settings.settle_s)
                yield _folder_entry(inbox / folder.name, folder.name, settings) if settled else None
    except OSError as error:
        raise ConfigurationError(
            f"The label inbox {inbox} cannot be read: {error.strerror}. Mend it, or BLOODCELL_LABELS_DIR."
        ) from error


def _is_left_out(name: str) -> bool:
    # ~$: a spreadsheet's mark of an open file
    return ignore_reason(name) is not None or name.startswith("~$") or name.lower().endswith(_UNFINISHED)


def _file_entry(file: DropFile) -> _Entry | None:
    location = Path(file.location)
    try:
        if file.problem is not None:
            raise unusable(file.problem, f"expected a CSV file or a folder sorted by class, received {file.path}")
        if not file.name.lower().endswith(".csv"):
            raise unusable("not_a_label_file", f"expected a name that ends in .csv, received {file.path}")
        if file.size_bytes > MAX_FILE_BYTES:
            raise unusable("too_many_bytes", f"expected at most {MAX_FILE_BYTES:,} bytes, received {file.size_bytes:,}")
        return _Entry(file.path, location, _digest(location), CsvLabels(location))
    except FileNotFoundError:  # taken out since it was listed
        return None
    except UnusableFileError as error:
        state = f"{error.reason}\0{file.size_bytes}\0{file.changed_ns}"
        return _Entry(file.path, location, hashlib.sha256(state.encode()).hexdigest(), refused=error)


def _folder_entry(folder: Path, name: str, settings: Settings) -> _Entry | None:
    digest = FolderDigest()
    try:
        if not folder.is_dir():  # `name` has its bytes escaped then
            raise unusable("name_not_utf8", f"expected a folder named for a person, received {name}")
        if meaning_of(name) is not None:
            raise unusable(
                "not_a_label_file",
                f"expected a folder named for the person, with a folder for each class in it, received {name}",
            )
        for _, file in labelled_files(folder):
            digest.add(file)
        labels = FolderLabels(folder, checked_person(name), settings.max_file_bytes)
    except BadRowError as error:
        refused = unusable("not_a_label_file", f"expected a folder named for the person who sorted it: {error}")
        return _Entry(name, folder, digest.hexdigest(), refused=refused)
    except UnusableFileError as error:
        return _Entry(name, folder, digest.hexdigest(), refused=error)
    return _Entry(name, folder, digest.hexdigest(), labels) if digest.n_files else None  # somebody is about to fill it


def _digest(path: Path) -> str:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable("unreadable", f"{path.name}: {error.strerror}") from error


def _judged(database: Database, entry: _Entry, airflow_run: str | None) -> InboxFile | None:
    """Returns what became of it; None where it is still being written."""
    try:
        with recorded_run(database, "labels", airflow_run=airflow_run) as run:
            return database.transact(functools.partial(_taken, run=run, entry=entry))
    except StillWrittenError:
        return None
    except UnusableFileError as error:
        n_rows = error.outcome.n_rows if isinstance(error, RefusedRowsError) else 0
        file = InboxFile(entry.path, "quarantined", str(error), n_rows, 0)
        database.transact(lambda connection: _note(connection, run, entry, file))
        return file


def _taken(connection: sa.Connection, run: Run, entry: _Entry) -> InboxFile:
    if entry.labels is None:
        raise entry.refused or unusable("not_a_label_file", entry.path)
    outcome = take(connection, run, entry.labels, entry.location)
    if entry.labels.sha256 != entry.sha256:
        raise StillWrittenError(entry.path)
    file = InboxFile(entry.path, "imported", None, outcome.n_rows, outcome.n_new)
    _note(connection, run, entry, file)  # with the labels, or not at all
    return file


def _known(connection: sa.Connection, entry: _Entry) -> tuple[InboxFile, str | None] | None:
    """Returns what was made of it and for which Dag run; None where nothing was, or that may be otherwise by now."""
    table, run, ingest = tables.label_file, tables.run, tables.run.alias("ingest")
    # since the start of judging: an ingest that ended meanwhile may have been seen or not
    ingested_since = sa.exists().where(ingest.c.stage == "ingest", ingest.c.ended_at >= run.c.started_at)
    row = connection.execute(
        sa.select(*(table.c[name] for name in InboxFile.__dataclass_fields__), run.c.airflow_run, ingested_since)
        .join(run, run.c.run_id == table.c.run_id)
        .where(table.c.path == entry.path, table.c.sha256 == entry.sha256)
        .order_by(table.c.seen_at.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    *judged, airflow_run, is_ingested_since = row
    file = InboxFile(*judged)
    if is_ingested_since and (file.reason or "").startswith("cells_missing:"):
        return None
    return file, airflow_run


def _note(connection: sa.Connection, run: Run, entry: _Entry, file: InboxFile) -> None:
    row = {name: getattr(file, name) for name in InboxFile.__dataclass_fields__}
    statement = insert(tables.label_file).values(sha256=entry.sha256, run_id=run.run_id, **row)
    connection.execute(statement.on_conflict_do_nothing())
