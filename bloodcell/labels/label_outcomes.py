"""Why a label file or a row of one is refused, and what the operator does about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bloodcell.errors import UnusableFileError

FILE_REASONS: Final = {
    "not_a_label_file": "Neither a CSV file nor a folder sorted by class. Save it as CSV UTF-8, or take it out.",
    "not_csv": "Not a table of values separated by commas, semicolons or tabs. Save it as CSV UTF-8.",
    "wrong_encoding": "Not UTF-8. Save it as CSV UTF-8.",
    "missing_columns": "The first row does not name the columns a label needs. Name them as the README says.",
    "no_labels": "There is not one label in it. Check what was saved or copied.",
    "rows_refused": "Rows are wrong, and of such a file none is taken. Mend them, or import it by hand with --partial.",
    "cells_missing": "Cells of it are not there, and of such a file none is taken. Mend the names, or wait: after the "
    "next ingest the inbox reads it again.",
    "too_many_bytes": "Larger than the inbox takes. Import it by hand: bloodcell labels import FILE.",
    "link": "Links are not followed out of the inbox. Copy the file itself.",
    "not_a_regular_file": "A pipe, socket or device. Remove it.",
    "unreadable": "The file or folder cannot be read. Mend its permissions or the disk.",
    "name_not_utf8": "The name is not valid UTF-8. Rename it.",
}
"""Why a file of labels is set aside, and the next step."""

IN_THE_FUTURE: Final = "is in the future; a time without a zone is read as UTC: write 2026-11-21T14:30:00+01:00"

MAX_ERRORS: Final = 1_000
"""Refused rows that are told one by one; more are only counted, so that memory stays flat."""


@dataclass(frozen=True, slots=True, order=True)
class RowError:
    """A refused row.

    Attributes:
        row: Counted as a spreadsheet does: the row of column names is 1. In a folder the n-th file, by path.
        text: What is wrong: expected, received.
    """

    row: int
    text: str


class RowErrors:
    """Refused rows, all counted, the first `MAX_ERRORS` kept."""

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
    """Returns the error of a file that is refused as a whole; `reason` is one of `FILE_REASONS`."""
    return UnusableFileError(reason, f"{detail}. {FILE_REASONS[reason]}")


def shown(text: str) -> str:
    """Returns what was received, quoted and short enough for a message."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
