"""Imports what arrives in the label inbox, or quarantines it with a reason; nothing is moved or deleted.

The ledger `label_file` identifies each file by its content. A file is read again only if it changes, or if it named
cells that were missing and something has been ingested since. A folder sorted by class is named after the person who
sorted it.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.cells.label_meanings import meaning_of
from bloodcell.errors import ConfigurationError, RetryLaterError, UnusableFileError
from bloodcell.inbox.ignoring import ignore_reason, is_unfinished
from bloodcell.inbox.listing import ListedFile, list_folder
from bloodcell.inbox.settling import is_settled
from bloodcell.inbox.unchanged_files import StillWrittenError, open_unfollowed
from bloodcell.labels.class_folders import FolderDigest, FolderLabels, labelled_files
from bloodcell.labels.csv_rows import CsvLabels
from bloodcell.labels.importing import Labels, RefusedRowsError, count_labelled, take
from bloodcell.labels.label_outcomes import unusable
from bloodcell.labels.label_rows import BadRowError, checked_person
from bloodcell.presentation.numbers import counted
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import Run, recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

log = logging.getLogger(__name__)

_SQL: Final = load_statements("labels/label_inbox.sql")

MAX_FILE_BYTES: Final = 512 * 2**20
"""Largest CSV file that the inbox accepts, some five million rows: every check of the inbox reads it."""


@dataclass(frozen=True, slots=True)
class InboxFile:
    """The outcome of one file or folder of the inbox.

    Attributes:
        path: Its name within the inbox.
        outcome: imported or quarantined.
        reason: Why it was quarantined, None if it was imported.
        n_rows: Labels in it.
        n_labels: New labels among them.
    """

    path: str
    outcome: str
    reason: str | None
    n_rows: int
    n_labels: int


@dataclass(frozen=True, slots=True)
class InboxResult:
    """The outcome of one check of the inbox.

    Attributes:
        files: Files and folders that were read now or, in a Dag run, by its earlier tries.
        n_known: Files and folders read before and unchanged since.
        n_waiting: Files and folders still being written.
    """

    files: tuple[InboxFile, ...]
    n_known: int
    n_waiting: int

    @property
    def quarantined(self) -> tuple[InboxFile, ...]:
        return tuple(file for file in self.files if file.outcome == "quarantined")

    @property
    def summary(self) -> str:
        """What was found, in one sentence."""
        n_imported = len(self.files) - len(self.quarantined)
        n_labels = sum(file.n_labels for file in self.files)
        found = f"{counted(n_labels, 'new label')} from {counted(n_imported, 'file')}" if self.files else "Nothing new"
        rest = f"{self.n_known:,} already known, {self.n_waiting:,} still being written"
        return f"{found}; {len(self.quarantined):,} set aside, {rest}."


@dataclass(frozen=True, slots=True)
class _Entry:
    """The current state of a file or folder; `labels` reads it, `refused` is why it cannot be read."""

    path: str
    location: Path
    sha256: str
    labels: Labels | None = None
    refused: UnusableFileError | None = None


def import_inbox(settings: Settings, *, airflow_run: str | None = None) -> InboxResult:
    """Imports what is new in the label inbox, and counts the slides whose cells have new labels.

    Each file is imported completely or not at all, and a bad file does not hold up others.

    Args:
        settings: Where the inbox is, and how long a file has to be unchanged.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Raises:
        ConfigurationError: The inbox exists but cannot be read, or Postgres refuses the login.
        RetryLaterError: Postgres is unavailable.
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
        file = known[0] if known else _imported(database, entry, airflow_run)
        if file is None:
            n_waiting += 1
        else:
            files.append(file)
    count_labelled(settings, database, airflow_run=airflow_run)  # also labels entered through the view
    return InboxResult(tuple(files), n_known, n_waiting)


def _entries(settings: Settings) -> Iterator[_Entry | None]:
    """Yields the entries of the inbox, None for one that is still being written."""
    inbox = settings.labels
    if not inbox.exists():
        return
    try:
        for folder in list_folder(inbox):
            if not folder.name:
                for file in folder.files:
                    if not _is_ignored(file.path):
                        settled = is_settled(file.changed_ns, None, settings.settle_s)
                        yield _file_entry(file) if settled else None
            elif not _is_ignored(folder.name):
                settled = is_settled(folder.newest_change_ns, None, settings.settle_s)
                yield _folder_entry(inbox / folder.name, folder.name, settings) if settled else None
    except OSError as error:
        raise ConfigurationError(
            f"The label inbox {inbox} cannot be read: {error.strerror}. Fix its permissions, or set "
            "BLOODCELL_LABELS_DIR to another folder."
        ) from error


def _is_ignored(name: str) -> bool:
    return ignore_reason(name) is not None or is_unfinished(name)


def _file_entry(file: ListedFile) -> _Entry | None:
    location = Path(file.location)
    try:
        if file.problem is not None:
            raise unusable(file.problem, f"expected a CSV file or a folder sorted by class, received {file.path}")
        if not file.name.lower().endswith(".csv"):
            raise unusable("not_a_label_file", f"expected a name that ends in .csv, received {file.path}")
        if file.size_bytes > MAX_FILE_BYTES:
            raise unusable("too_many_bytes", f"expected at most {MAX_FILE_BYTES:,} bytes, received {file.size_bytes:,}")
        return _Entry(file.path, location, _digest(location), CsvLabels(location))
    except FileNotFoundError:  # removed since it was listed
        return None
    except UnusableFileError as error:
        state = f"{error.reason}\0{file.size_bytes}\0{file.changed_ns}"
        return _Entry(file.path, location, hashlib.sha256(state.encode()).hexdigest(), refused=error)


def _folder_entry(folder: Path, name: str, settings: Settings) -> _Entry | None:
    digest = FolderDigest()
    try:
        if not folder.is_dir():  # part of `name` is spelt out, so there is no folder of this name
            reason = "name_not_visible" if re.search(r"\\[uU][0-9a-f]{4}", name) else "name_not_utf8"
            raise unusable(reason, f"expected a folder named for a person, received {name}")
        if meaning_of(name) is not None:
            raise unusable(
                "not_a_label_file",
                f"expected a folder named for the person, with a folder for each class in it, received {name}",
            )
        for _, file in labelled_files(folder):
            digest.add(file)
        labels = FolderLabels(folder, checked_person(name), settings)
    except BadRowError as error:
        refused = unusable("not_a_label_file", f"expected a folder named for the person who sorted it: {error}")
        return _Entry(name, folder, digest.hexdigest(), refused=refused)
    except UnusableFileError as error:
        return _Entry(name, folder, digest.hexdigest(), refused=error)
    return _Entry(name, folder, digest.hexdigest(), labels) if digest.n_files else None  # it is about to be filled


def _digest(path: Path) -> str:
    try:
        with os.fdopen(open_unfollowed(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable("unreadable", f"{path.name}: {error.strerror}") from error


def _imported(database: Database, entry: _Entry, airflow_run: str | None) -> InboxFile | None:
    """Returns the outcome, None if the entry is still being written."""
    try:
        with recorded_run(database, "labels", airflow_run=airflow_run) as run:
            return database.transact(functools.partial(_taken, run=run, entry=entry))
    except StillWrittenError:
        return None
    except (RetryLaterError, ConfigurationError):
        raise
    except UnusableFileError as error:
        n_rows = error.outcome.n_rows if isinstance(error, RefusedRowsError) else 0
        file = InboxFile(entry.path, "quarantined", str(error), n_rows, 0)
    except Exception as error:  # one file must not hold up the others
        log.exception("%s could not be imported", entry.path)
        file = InboxFile(entry.path, "quarantined", str(unusable("unexpected_error", type(error).__name__)), 0, 0)
    database.transact(lambda connection: _note(connection, run, entry, file))
    return file


def _taken(connection: sa.Connection, run: Run, entry: _Entry) -> InboxFile:
    if entry.labels is None:
        raise entry.refused or unusable("not_a_label_file", entry.path)
    outcome = take(connection, run, entry.labels, entry.location)
    if entry.labels.sha256 != entry.sha256:
        raise StillWrittenError(entry.path)
    file = InboxFile(entry.path, "imported", None, outcome.n_rows, outcome.n_new)
    _note(connection, run, entry, file)  # in the same transaction as the labels
    return file


def _known(connection: sa.Connection, entry: _Entry) -> tuple[InboxFile, str | None] | None:
    """Returns the earlier outcome and its Dag run; None if there is none, or if it might be different now."""
    row = connection.execute(_SQL["earlier_outcome"], {"path": entry.path, "sha256": entry.sha256}).one_or_none()
    if row is None:
        return None
    *fields, airflow_run, is_ingested_since = row
    file = InboxFile(*fields)
    if is_ingested_since and (file.reason or "").startswith("cells_missing:"):
        return None
    return file, airflow_run


def _note(connection: sa.Connection, run: Run, entry: _Entry, file: InboxFile) -> None:
    row = {name: getattr(file, name) for name in InboxFile.__dataclass_fields__}
    statement = insert(tables.label_file).values(sha256=entry.sha256, run_id=run.run_id, **row)
    connection.execute(statement.on_conflict_do_nothing())
