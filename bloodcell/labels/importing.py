"""Imports one file or folder of labels, completely or not at all unless `partial` is set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, RetryLaterError, UnusableFileError
from bloodcell.inbox.unchanged_files import StillWrittenError
from bloodcell.labels.class_folders import FolderLabels
from bloodcell.labels.csv_rows import CsvLabels, Progress
from bloodcell.labels.label_outcomes import FILE_REASONS, RowError, RowErrors
from bloodcell.labels.label_rows import BadRowError, as_copy_text, checked_person
from bloodcell.labels.matching import COPY_LABELS, NEW_LABELS, append_labels
from bloodcell.report.night_page import refresh_night_pages
from bloodcell.results.due_results import write_due_results
from bloodcell.storage.database import Database, open_database
from bloodcell.storage.runs import Run, recorded_run

if TYPE_CHECKING:
    from bloodcell.settings import Settings

Labels = CsvLabels | FolderLabels


@dataclass(frozen=True, slots=True)
class LabelImport:
    """The outcome of importing a file or folder of labels.

    Attributes:
        source: What was imported: csv or folder.
        is_taken: Whether the labels were imported; False if rows were refused, so that nothing was imported.
        n_rows: Labels in the file.
        n_new: Labels that are new. There can be more than rows, since an image can belong to several slides.
        n_known: Rows that repeat a label already in the database.
        n_repeated: Rows that repeat an earlier row of the file.
        n_refused: Rows that were refused.
        n_contested: Cells of the file that are now contested.
        errors: The first refused rows.
        ignored_columns: Columns of the file that labels do not use.
        run_id: The run.
    """

    source: str
    is_taken: bool
    n_rows: int
    n_new: int
    n_known: int
    n_repeated: int
    n_refused: int
    n_contested: int
    errors: tuple[RowError, ...]
    ignored_columns: tuple[str, ...]
    run_id: uuid.UUID


class RefusedRowsError(UnusableFileError):
    """Rows of a label file were refused, so none was imported; reason rows_refused or cells_missing.

    Attributes:
        outcome: Counts, and the refused rows.
    """

    def __init__(self, reason: str, outcome: LabelImport) -> None:
        shown = "; ".join(f"row {error.row}: {error.text.rstrip('.')}" for error in outcome.errors[:5])
        more = f"; and {outcome.n_refused - 5:,} more" if outcome.n_refused > 5 else ""
        super().__init__(
            reason, f"{outcome.n_refused:,} of {outcome.n_rows:,} rows: {shown}{more}. {FILE_REASONS[reason]}"
        )
        self.outcome = outcome


def import_labels(
    source: Path,
    settings: Settings,
    *,
    partial: bool = False,
    labelled_by: str | None = None,
    on_progress: Progress | None = None,
    airflow_run: str | None = None,
) -> LabelImport:
    """Imports a CSV file of labels, or a folder sorted by class, and counts the slides whose cells have new labels.

    Repeating an import adds nothing.

    Args:
        source: The file or folder.
        settings: The database, and the largest size of an image file.
        partial: Import the valid rows even if others are refused.
        labelled_by: Who labelled, for rows that do not name anyone; required for a folder.
        on_progress: Called with the name of a step, the amount done, and the total (0 if unknown).
        airflow_run: Id of the Dag run on whose behalf this is done.

    Returns:
        Counts, and the rows that were refused.

    Raises:
        UnusableFileError: The file is not a table of labels, or not UTF-8; reason one of `label_outcomes.FILE_REASONS`.
        ConfigurationError: There is no such file, or a folder was given without a person.
        RetryLaterError: Postgres is unavailable, or the file is still being written.
    """
    labels = open_labels(source, settings, labelled_by)
    database = open_database(settings)
    try:
        with recorded_run(database, "labels", airflow_run=airflow_run) as run:
            imported = database.transact(
                lambda connection: take(connection, run, labels, source, partial=partial, on_progress=on_progress)
            )
    except RefusedRowsError as refused:
        return refused.outcome
    except StillWrittenError as error:
        raise RetryLaterError(f"{source} changed while it was read: import it again once it is written.") from error
    count_labelled(settings, database, airflow_run=airflow_run)
    return imported


def count_labelled(settings: Settings, database: Database, *, airflow_run: str | None = None) -> None:
    """Counts the slides whose cells have new labels, and brings the pages of their nights up to date.

    Raises:
        ConfigurationError: The rules file is not valid, or a page cannot be written.
        DatabaseUnavailableError: Postgres stayed unavailable; call again.
    """
    write_due_results(settings, only_labelled=True, airflow_run=airflow_run)
    refresh_night_pages(settings, database)


def open_labels(source: Path, settings: Settings, labelled_by: str | None) -> Labels:
    """Returns the reader for a file or folder of labels; nothing is read yet.

    Raises:
        ConfigurationError: There is no such file, or a folder was given without a person.
    """
    if not source.exists():
        raise ConfigurationError(f"There is no file or folder of labels {source}.")
    try:
        by = None if labelled_by is None else checked_person(labelled_by)
    except BadRowError as error:
        raise ConfigurationError(f"Who labelled {source}: {error}.") from error
    if not source.is_dir():
        return CsvLabels(source, by)
    if by is None:
        raise ConfigurationError(f"Name the person who sorted the folder {source}: --by NAME.")
    return FolderLabels(source, by, settings)


def take(
    connection: sa.Connection,
    run: Run,
    labels: Labels,
    source: Path,
    *,
    partial: bool = False,
    on_progress: Progress | None = None,
) -> LabelImport:
    """Imports labels in a transaction that may be repeated under the same run, and returns the outcome.

    Raises:
        RefusedRowsError: Rows were refused and `partial` is not set: roll the transaction back.
    """
    errors = RowErrors()
    show = on_progress or (lambda *_: None)
    connection.execute(NEW_LABELS)
    cursor: Any = connection.connection.cursor()  # psycopg2's own, the only one with COPY
    reader = CopyReader(as_copy_text(labels.read(errors, show)))
    cursor.copy_expert(COPY_LABELS, reader, 2**16)
    if reader.problem is not None:
        raise reader.problem
    show("Match", 0, 1)
    matched = append_labels(connection, run.run_id, labels.source, errors)
    show("Match", 1, 1)
    outcome = LabelImport(
        source=labels.source,
        is_taken=partial or not errors.n,
        n_rows=labels.n_rows,
        n_new=matched.n_new if partial or not errors.n else 0,
        n_known=matched.n_known,
        n_repeated=matched.n_repeated,
        n_refused=errors.n,
        n_contested=matched.n_contested,
        errors=errors.first,
        ignored_columns=labels.ignored_columns,
        run_id=run.run_id,
    )
    run.detail |= {
        "labels_from": str(source).encode("utf-8", "backslashreplace").decode(),
        **{name: getattr(outcome, name) for name in ("n_rows", "n_new", "n_known", "n_repeated", "n_refused")},
    }
    if not outcome.is_taken:
        raise RefusedRowsError("cells_missing" if matched.n_missing == errors.n else "rows_refused", outcome)
    run.n_cells = outcome.n_new
    return outcome


class CopyReader:
    """Presents lines as a file for COPY, and holds no more of them than COPY reads at once.

    Attributes:
        problem: The error that ended the lines early. It is not raised from `read`, because psycopg2 would turn it into
            a server error.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._rest = b""
        self.problem: UnusableFileError | StillWrittenError | None = None

    def read(self, size: int) -> bytes:
        parts, length = [self._rest], len(self._rest)
        try:
            while length < size and (line := next(self._lines, b"")):
                parts.append(line)
                length += len(line)
        except (UnusableFileError, StillWrittenError) as problem:
            self.problem = problem
        body = b"".join(parts)
        self._rest = body[size:]
        return body[:size]
