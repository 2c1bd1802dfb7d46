"""Reads a CSV file of labels as a stream: a million rows take no more memory than one."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

from bloodcell.inbox.unchanged_files import StillWrittenError, open_unfollowed
from bloodcell.labels.label_outcomes import RowErrors, shown, unusable
from bloodcell.labels.label_rows import SPACE, BadRowError, LabelRow, checked_row

Progress = Callable[[str, int, int], None]
"""Called with the name of a step, the amount done, and the total."""

COLUMNS: Final = ("slide", "file", "cell_id", "label", "labelled_by", "labelled_at", "blind", "adjudication", "note")
"""Columns of a label file; docs/how-to/labels.md explains them."""

COLUMN_NAMES: Final = {name: name for name in COLUMNS} | {
    # the names that the views use, because a worklist is the result of a query with one more column
    "barcode": "slide",
    "file_name": "file",
    "is_blind": "blind",
    "is_adjudication": "adjudication",
}
"""Name in the file, in lower case -> column. Other columns are ignored and reported."""

_DELIMITERS: Final = (",", ";", "\t")
_LONGEST_LINE: Final = 2**20
_PROGRESS_EVERY: Final = 2_000


class CsvLabels:
    """The labels of a CSV file.

    Args:
        path: The file; a link is not followed.
        labelled_by: Who labelled, for rows that do not name anyone.

    Attributes:
        n_rows: Rows read so far, not counting the header and empty rows.
        ignored_columns: Columns that labels do not use.
        sha256: Digest of the file, once it has been read to its end.
    """

    source: Final = "csv"

    def __init__(self, path: Path, labelled_by: str | None = None) -> None:
        self._path, self._labelled_by = path, labelled_by
        self.n_rows = 0
        self.ignored_columns: tuple[str, ...] = ()
        self.sha256 = ""

    def read(self, errors: RowErrors, on_progress: Progress) -> Iterator[LabelRow]:
        """Yields the valid rows; the others go to `errors`. Can be called again.

        Raises:
            UnusableFileError: The file is not a table of labels; reason one of `label_outcomes.FILE_REASONS`.
            StillWrittenError: The file changed while it was read.
        """
        self.n_rows, digest = 0, hashlib.sha256()
        with closing(_opened(self._path)) as file:
            before = os.fstat(file.fileno())
            lines = _lines(file, digest.update)
            for row, fields, columns in self._records(lines):
                self.n_rows += 1
                if self.n_rows % _PROGRESS_EVERY == 0:
                    on_progress("Read", file.tell(), before.st_size)
                try:
                    yield checked_row(row, _by_name(fields, columns), self._labelled_by)
                except BadRowError as error:
                    errors.add(row, str(error))
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise StillWrittenError(str(self._path))
        self.sha256 = digest.hexdigest()
        on_progress("Read", before.st_size, before.st_size)
        if not self.n_rows:
            raise unusable("no_labels", "expected rows below the column names, received none")

    def _records(self, lines: Iterator[str]) -> Iterator[tuple[int, list[str], Sequence[str | None]]]:
        row, columns = 0, None
        try:
            first = next(lines, None)
            if first is None:
                raise unusable("no_labels", "expected a row of column names, received an empty file")
            delimiter = max(_DELIMITERS, key=lambda mark: sum(name in COLUMN_NAMES for name in _names(first, mark)))
            columns = self._columns(_names(first, delimiter))
            row = 1
            # strict, because a quote that is never closed would swallow the rest of the file
            for row, fields in enumerate(csv.reader(lines, delimiter=delimiter, strict=True), start=2):
                if any(field.strip(SPACE) for field in fields):
                    yield row, fields, columns
        except _NotUtf8Error as error:
            raise unusable("wrong_encoding", f"row {row + 1}: expected UTF-8, received {error}") from error
        except csv.Error as error:
            raise unusable(
                "not_csv",
                f"row {row + 1}: expected values separated by commas, semicolons or tabs, received something else "
                f"({error}); look for a quote that is never closed",
            ) from error

    def _columns(self, names: list[str]) -> list[str | None]:
        columns = [COLUMN_NAMES.get(name) for name in names]
        there = [column for column in columns if column]
        missing = [name for name in ("label", "labelled_at") if name not in there]
        if "cell_id" not in there and not {"slide", "file"} <= set(there):
            missing.append("cell_id (or slide and file)")
        if "labelled_by" not in there and self._labelled_by is None:
            missing.append("labelled_by")
        if missing:
            raise unusable("missing_columns", f"expected also {', '.join(missing)}, received {shown(', '.join(names))}")
        if twice := sorted({column for column in there if there.count(column) > 1}):
            raise unusable("missing_columns", f"expected each column once, received twice: {', '.join(twice)}")
        self.ignored_columns = tuple(name for name, column in zip(names, columns, strict=True) if not column and name)
        return columns


class _NotUtf8Error(Exception):
    """A byte that is not UTF-8, named in the message."""


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(open_unfollowed(path), "rb")
    except FileNotFoundError as error:
        raise StillWrittenError(str(path)) from error
    except OSError as error:
        raise unusable("unreadable", f"{path}: {error.strerror}") from error


def _lines(file: BinaryIO, on_bytes: Callable[[bytes], None]) -> Iterator[str]:
    at = 0
    try:
        while line := file.readline(_LONGEST_LINE):
            on_bytes(line)
            if at == 0:
                _refuse_other_formats(line)
            if len(line) == _LONGEST_LINE:
                raise unusable("not_csv", f"expected lines of less than {_LONGEST_LINE:,} bytes, received more")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise _NotUtf8Error(f"byte {at + error.start:,} of the file, 0x{byte:02X}") from error
            yield text if at else text.removeprefix("\ufeff")
            at += len(line)
    except OSError as error:
        raise unusable("unreadable", str(error)) from error


def _refuse_other_formats(line: bytes) -> None:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise unusable("wrong_encoding", "row 1: expected UTF-8, received UTF-16 (bytes 0 and 1)")
    if line.startswith(b"PK\x03\x04"):
        raise unusable("not_csv", "expected text, received a workbook or an archive")
    if b"\0" in line:
        raise unusable("not_csv", f"expected text, received a NUL byte at byte {line.index(0):,}")


def _names(line: str, delimiter: str) -> list[str]:
    record = next(csv.reader([line], delimiter=delimiter), [])
    return [name.strip(SPACE).lower() for name in record]


def _by_name(fields: list[str], columns: Sequence[str | None]) -> dict[str, str]:
    if len(fields) != len(columns):
        raise BadRowError(f"expected {len(columns)} fields as in the first row, received {len(fields)}")
    return {column: field for column, field in zip(columns, fields, strict=True) if column}
