"""Why a label file or one of its rows is refused, and what the operator does next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bloodcell.errors import UnusableFileError
from bloodcell.visible_text import visible

FILE_REASONS: Final = {
    "not_a_label_file": "Neither a CSV file nor a folder sorted by class. Save it as CSV UTF-8, or remove it.",
    "not_csv": "Not a table of values separated by commas, semicolons or tabs. Save it as CSV UTF-8.",
    "wrong_encoding": "Not UTF-8. Save it as CSV UTF-8.",
    "missing_columns": "The first row does not name the columns that labels need. See bloodcell labels import --help.",
    "no_labels": "It contains no labels. Check what was saved or copied.",
    "rows_refused": "Some rows are wrong, so none was imported. Fix them, or import the file by hand with --partial.",
    "cells_missing": "Some cells are not in the database, so nothing was imported. Fix the names, or wait: the inbox "
    "reads the file again after the next ingest.",
    "too_many_bytes": "Larger than the inbox accepts. Import it by hand: bloodcell labels import FILE.",
    "link": "Links are not followed out of the inbox. Copy the file itself.",
    "not_a_regular_file": "A pipe, socket or device. Remove it.",
    "unreadable": "The file or folder cannot be read. Fix its permissions or the disk.",
    "name_not_utf8": "The name is not valid UTF-8. Rename it.",
    "name_not_visible": "The name has characters that nobody sees, such as a change of direction. Rename it.",
    "unexpected_error": "bloodcell failed on this file, and went on with the others. Report it with the log.",
}
"""Why a label file is quarantined, and the next step."""

IN_THE_FUTURE: Final = "is in the future; a time without a zone is read as UTC: write 2026-11-21T14:30:00+01:00"

MAX_ERRORS: Final = 1_000
"""Number of refused rows that are reported one by one; the rest are only counted, so that memory stays bounded."""


@dataclass(frozen=True, slots=True, order=True)
class RowError:
    """A refused row.

    Attributes:
        row: Numbered as in a spreadsheet, with the header as row 1. In a folder, the n-th file by path.
        text: What was expected and what was received.
    """

    row: int
    text: str


class RowErrors:
    """Refused rows: all are counted, the first `MAX_ERRORS` are kept."""

    def __init__(self) -> None:
        self.n = 0
        self._kept: list[RowError] = []

    def add(self, row: int, text: str) -> None:
        self.n += 1
        if len(self._kept) < MAX_ERRORS:
            self._kept.append(RowError(row, text))

    @property
    def first(self) -> tuple[RowError, ...]:
        return tuple(sorted(self._kept)[:MAX_ERRORS])


def unusable(reason: str, detail: str) -> UnusableFileError:
    """Returns the error for a file that is refused as a whole; `reason` is one of `FILE_REASONS`."""
    return UnusableFileError(reason, f"{detail}. {FILE_REASONS[reason]}")


def shown(text: str) -> str:
    """Returns received text, quoted and shortened for a message."""
    return visible(repr(text if len(text) <= 60 else f"{text[:57]}..."))
