"""A row of a label file, checked as far as possible without the database, and written as a line for COPY."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bloodcell.cells.label_meanings import Meaning, meaning_of
from bloodcell.cells.names import composed
from bloodcell.labels.label_outcomes import IN_THE_FUTURE, shown
from bloodcell.visible_text import has_invisible

SPACE: Final = " \t\n\r\f"
"""Characters stripped from both ends of a field; the view `cell_label` strips the same."""

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier times come from a spreadsheet that misread a date; the table refuses them too."""

_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)  # later times may not exist in UTC
_MAX_NAME: Final = 200
_MAX_FILE_NAME: Final = 1_000
_MAX_NOTE: Final = 2_000
_LARGEST_ID: Final = 2**63 - 1
# a German spreadsheet writes a logical value as WAHR or FALSCH
_YES: Final = frozenset({"1", "true", "yes", "wahr"})
_NO: Final = frozenset({"", "0", "false", "no", "falsch"})
# the apostrophe that `exporting` adds so that a spreadsheet does not read text as a formula
_GUARDED: Final = re.compile(r"'+[=+\-@\t\r]")


class BadRowError(ValueError):
    """A row that is not a valid label; the message says why."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One valid row.

    Attributes:
        row: Row number in the file.
        barcode: The slide, if given.
        file_name: The file within the slide, if given.
        cell_id: The cell, if given.
        sha256: Digest of the image, if the label comes with one.
        stored_sha256: Digest of that image without metadata.
        labelled_at: ISO 8601 with a timezone.
    """

    row: int
    barcode: str | None
    file_name: str | None
    cell_id: int | None
    sha256: str | None
    stored_sha256: str | None
    meaning: Meaning
    labelled_by: str
    labelled_at: str
    is_blind: bool
    is_adjudication: bool
    note: str | None


COLUMNS: Final = (
    *("row_number", "barcode", "file_name", "cell_id", "sha256", "stored_sha256", "class", "sub_label"),
    *("labelled_by", "labelled_at", "is_blind", "is_adjudication", "note"),
)
"""Columns of the table that `as_copy_text` writes lines for."""


def checked_row(row: int, fields: Mapping[str, str], labelled_by: str | None) -> LabelRow:
    """Returns a row of a CSV file, checked.

    Args:
        row: Row number in the file.
        fields: Column -> text, without the columns that the file lacks.
        labelled_by: Who labelled, if the row does not name anyone.

    Raises:
        BadRowError: It is not a valid label.
    """
    text = {name: unguarded(value.strip(SPACE)) for name, value in fields.items()}
    meaning = meaning_of(text["label"])
    if meaning is None:
        raise BadRowError(
            "label: expected a class (neutrophil, ig ...) or an analyser code of the view label_code (SNE, BL "
            f"...), received {shown(text['label'])}"
        )
    barcode, file_name = (composed(text.get(name, "")) or None for name in ("slide", "file"))
    cell_id = _cell_id(text.get("cell_id", ""))
    if cell_id is None and (barcode is None or file_name is None):
        raise BadRowError("the row names no cell: expected a cell_id, or slide and file")
    return LabelRow(
        row,
        _bounded("slide", barcode, _MAX_FILE_NAME),
        _bounded("file", file_name, _MAX_FILE_NAME),
        cell_id,
        None,
        None,
        meaning,
        checked_person(text.get("labelled_by") or labelled_by or ""),
        _instant(text["labelled_at"]),
        _flag("blind", text.get("blind", "")),
        _flag("adjudication", text.get("adjudication", "")),
        _bounded("note", text.get("note") or None, _MAX_NOTE),
    )


def checked_person(name: str) -> str:
    """Returns the name of the person, with accents and spaces normalised, because systems encode them differently.

    Raises:
        BadRowError: The name is empty, is longer than 200 characters, or contains characters that nobody sees.
    """
    name = unicodedata.normalize("NFC", name).replace("\N{NO-BREAK SPACE}", " ").strip(SPACE)
    if not name:
        raise BadRowError("labelled_by is empty: expected who labelled the cell")
    if len(name) > _MAX_NAME or has_invisible(name):
        raise BadRowError(
            f"labelled_by: expected at most {_MAX_NAME} visible characters on one line, received {len(name):,}: "
            f"{shown(name)}"
        )
    return name


def unguarded(text: str) -> str:
    """Returns the text without the apostrophe that stops a spreadsheet from reading it as a formula."""
    return text[1:] if text.startswith("'") and _GUARDED.match(text) else text


def as_copy_text(rows: Iterable[LabelRow]) -> Iterator[bytes]:
    """Yields one line per row, in the format of COPY."""
    for row in rows:
        meaning = row.meaning
        fields = (
            str(row.row),
            _escaped(row.barcode),
            _escaped(row.file_name),
            r"\N" if row.cell_id is None else str(row.cell_id),
            row.sha256 or r"\N",
            row.stored_sha256 or r"\N",
            meaning.cell_class or r"\N",
            meaning.sub_label or r"\N",
            _escaped(row.labelled_by),
            row.labelled_at,
            "t" if row.is_blind else "f",
            "t" if row.is_adjudication else "f",
            _escaped(row.note),
        )
        yield ("\t".join(fields) + "\n").encode()


_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _escaped(text: str | None) -> str:
    return r"\N" if text is None else text.translate(_ESCAPES)


def _bounded(name: str, text: str | None, longest: int) -> str | None:
    if text is not None and len(text) > longest:
        raise BadRowError(f"{name}: expected at most {longest:,} characters, received {len(text):,}: {shown(text)}")
    if text is not None and has_invisible(text.replace("\r\n", "\n").replace("\r", "\n"), lines=True):
        raise BadRowError(f"{name}: expected visible characters, received others in {shown(text)}")
    return text


def _cell_id(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > _LARGEST_ID:
        raise BadRowError(f"cell_id: expected a whole number as shown in the views, received {shown(text)}")
    return int(text)


def _flag(name: str, text: str) -> bool:
    if (lower := text.lower()) in _NO:
        return False
    if lower in _YES:
        return True
    raise BadRowError(f"{name}: expected 0, 1, true, false, yes or no, received {shown(text)}")


@functools.lru_cache(4_096)  # in a file either few times repeat, or none do
def _instant(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None:
        raise BadRowError(f"labelled_at: expected ISO 8601, such as 2026-11-21T14:30:00+01:00, received {shown(text)}")
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at < EARLIEST:
        raise BadRowError(f"labelled_at: expected a time after {EARLIEST:%Y-%m-%d}, received {shown(text)}")
    if at > _LATEST:
        raise BadRowError(f"labelled_at {shown(text)} {IN_THE_FUTURE}")
    return at.astimezone(UTC).isoformat()  # Postgres accepts fewer offsets than Python
