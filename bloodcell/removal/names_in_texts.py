"""Names of erased slides and patients are found in texts and blanked out: in files, and in columns of Postgres."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import sqlalchemy as sa

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST_NAME: Final = 4
"""Characters. A shorter name would be found in half of all lines, where it means something else."""

BLANK: Final = "[erased]"
_CHUNK_BYTES: Final = 1 << 20


def searchable(names: Sequence[str]) -> list[str]:
    """Returns the names that are long enough to be looked for in texts."""
    return [name for name in names if len(name) >= SHORTEST_NAME]


def postgres_pattern(names: Sequence[str]) -> str:
    """Returns the regular expression of Postgres that finds the names; one that finds nothing if there are none."""
    if not searchable(names):
        return "(?!)"
    spellings = "|".join(re.sub(r"([^\w])", r"\\\1", spelling) for spelling in _spellings(names))
    return f"(?<![[:alnum:]])(?:{spellings})(?![[:alnum:]])"


def blank_names(path: Path, names: Sequence[str]) -> int:
    """Overwrites the names in a file with asterisks, and returns how often they occurred.

    The file keeps its length, so a process that is still appending to it is not disturbed. Doing it again does no harm.

    Raises:
        OSError: The file cannot be read or written.
    """
    pattern = _file_pattern(names)
    if pattern is None:
        return 0
    longest = max(len(spelling.encode()) for spelling in _spellings(names))
    n = 0
    with path.open("r+b") as file:
        start, kept = 0, b""
        while chunk := file.read(_CHUNK_BYTES):
            window = kept + chunk
            for match in pattern.finditer(window):
                file.seek(start + match.start())
                file.write(b"*" * len(match[0]))
                n += 1
            # a name may begin in this chunk and end in the next; what was blanked is not found again
            window = pattern.sub(lambda match: b"*" * len(match[0]), window)
            kept = window[-(longest + 1) :]
            start += len(window) - len(kept)
            file.seek(start + len(kept))
    return n


def blank_json(
    connection: sa.Connection, table: sa.TableClause, column: sa.ColumnElement[Any], names: Sequence[str]
) -> int:
    """Replaces the names in the texts of a JSON column, and returns the number of rows changed.

    Numbers stay as they are: a count that equals an order number says nothing about the order.

    Args:
        connection: Where to write.
        table: The table.
        column: Its column, of a JSON type.
        names: The names.
    """
    pattern = _text_pattern(names)
    if pattern is None:
        return 0
    named = sa.cast(column, sa.Text).regexp_match(postgres_pattern(names))
    rows = sa.select(sa.literal_column("ctid"), column).select_from(table).where(named).with_for_update()
    n = 0
    for row_id, value in connection.execute(rows).all():
        blanked = _blanked(value, pattern)
        if blanked != value:
            that_row = sa.text("ctid = CAST(:row_id AS tid)").bindparams(row_id=row_id)
            connection.execute(sa.update(table).values({column: blanked}).where(that_row))
            n += 1
    return n


def _blanked(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(BLANK, value)
    if isinstance(value, list):
        return [_blanked(each, pattern) for each in value]
    if isinstance(value, dict):
        return {_blanked(key, pattern): _blanked(each, pattern) for key, each in value.items()}
    return value


def is_named(text: str, names: Sequence[str]) -> bool:
    """Returns whether a text contains one of the names."""
    pattern = _file_pattern(names)
    return pattern is not None and pattern.search(text.encode("utf-8", "surrogateescape")) is not None


def _text_pattern(names: Sequence[str]) -> re.Pattern[str] | None:
    if not searchable(names):
        return None
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, _spellings(names)))})(?![^\W_])")


def _file_pattern(names: Sequence[str]) -> re.Pattern[bytes] | None:
    if not searchable(names):
        return None
    spellings = b"|".join(re.escape(spelling.encode()) for spelling in _spellings(names))
    return re.compile(rb"(?<![0-9A-Za-z])(?:" + spellings + rb")(?![0-9A-Za-z])")


def _spellings(names: Sequence[str]) -> list[str]:
    """Returns the names as logs, JSON, pages and addresses write them, the longest first."""
    spellings = set()
    for name in searchable(names):
        for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            escaped = json.dumps(form)[1:-1]
            spellings |= {form, escaped, escaped.replace("\\", "\\\\"), html.escape(form), quote(form, safe="")}
    return sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
