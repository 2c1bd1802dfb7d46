"""One row for every file of a night, and the statements that read and write many rows at once.

All rows of a table are written by one statement, as one JSON parameter that Postgres turns into rows of the table's own
types. With one statement per row, writing 2,000 files took three times as long as reading, hashing and decoding them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON, Insert, insert

from bloodcell.storage import tables

if TYPE_CHECKING:
    from bloodcell.inbox.listing import ListedFile
    from bloodcell.ingest.examine import StoredImage


@dataclass(frozen=True, slots=True)
class FileRow:
    """What the ledger says about one file."""

    path: str
    barcode: str | None
    outcome: str
    reason: str | None
    detail: str | None
    cell_id: int | None
    sha256: str | None
    size_bytes: int
    changed_ns: int
    stored_sha256: str | None = None


def quarantined(file: ListedFile, barcode: str | None, reason: str, detail: str) -> FileRow:
    """Returns the ledger row of a file that is set aside."""
    return FileRow(file.path, barcode, "quarantined", reason, detail, None, None, file.size_bytes, file.changed_ns)


def ignored(file: ListedFile, barcode: str | None, reason: str) -> FileRow:
    """Returns the ledger row of a file that is ignored by a rule."""
    return FileRow(file.path, barcode, "ignored", reason, None, None, None, file.size_bytes, file.changed_ns)


def known_files(connection: sa.Connection, night: date, paths: Sequence[str]) -> dict[str, FileRow]:
    """Returns what the ledger already says about these files, by path."""
    rows = connection.execute(_KNOWN_FILES, {"night": night, "paths": list(paths)})
    return {row.path: FileRow(*row) for row in rows}


def as_json(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Returns rows as the parameter of a statement that `insert_of` made."""
    return {"rows": json.dumps(rows, default=str)}


def fields_of(record: FileRow | StoredImage) -> dict[str, object]:
    """Returns the columns of a record."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def insert_of(table: sa.Table, *names: str) -> Insert:
    """Returns a statement that inserts the objects of the JSON array `rows`, with the table's own types.

    It is built once: building and compiling it for every slide slowed down the examining threads.
    """
    rows = sa.bindparam("rows", type_=sa.Text).cast(JSON)
    sent = sa.func.json_populate_recordset(sa.text(f"NULL::{table.fullname}"), rows).table_valued(*names)
    return insert(table).from_select(names, sa.select(sent))


def among(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    """Returns whether a column has one of the values of a parameter, which is one array whatever their number."""
    return column == sa.any_(sa.bindparam(name, type_=ARRAY(sa.Text)))


_KNOWN_FILES: Final = sa.select(*(tables.drop_file.c[name] for name in FileRow.__dataclass_fields__)).where(
    tables.drop_file.c.night == sa.bindparam("night"), among(tables.drop_file.c.path, "paths")
)
