"""Marts as files: each view becomes a Parquet or CSV file, in memory that does not grow with the rows.

Postgres writes the rows by COPY. For Parquet, pyarrow reads them from a pipe, in blocks; for CSV they are the file.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa

from bloodcell.storage.atomic_write import atomic_file
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    import pyarrow

    from bloodcell.storage.database import Database

FileFormat = Literal["parquet", "csv"]

_SQL: Final = load_statements("exchange/mart_export.sql")
MARTS: Final = ("mart_slide", "mart_slide_class", "mart_cell")
"""The views that are exported: one row per slide, per slide and class, per cell."""

_FORMULA: Final = "[=+@\\t\\r\\n＝＋－＠-]"
"""What a spreadsheet takes for the beginning of a formula, at the beginning of a text.

Source: OWASP, CSV injection, https://owasp.org/www-community/attacks/CSV_Injection.
"""
_TEXT: Final = ("text", "character varying")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a mart.

    Attributes:
        mart: The view.
        name: Its name.
        type: Its type in Postgres.
        comment: What it means.
    """

    mart: str
    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written.

    Attributes:
        path: The file.
        n_rows: Its rows.
    """

    path: Path
    n_rows: int


def export_marts(
    database: Database,
    folder: Path,
    first: date,
    last: date,
    file_format: FileFormat,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Exported]:
    """Writes the marts of some nights into a folder, with a dictionary of their columns, and returns the files.

    All files are of one moment. A file appears when it is complete; one of the same name is replaced.

    Args:
        database: Where to read; the login may be one that reads only views.
        folder: Where the files are written.
        first: First night.
        last: Last night, included.
        file_format: parquet or csv. In CSV, a text that a spreadsheet would take for a formula begins with an
            apostrophe.
        on_progress: Called with the name of a mart, the marts that are done, and all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exported = []
    with database.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            connection.execute(sa.text("SET LOCAL timezone = 'UTC'"))
            columns = read_dictionary(connection)
            for number, mart in enumerate(MARTS):
                on_progress(mart, number, len(MARTS))
                own = [each for each in columns if each.mart == mart]
                path = folder / f"{mart}.{file_format}"
                exported.append(_written(connection, own, path, first, last, file_format))
    on_progress(MARTS[-1], len(MARTS), len(MARTS))
    exported.append(_dictionary_file(columns, folder / "dictionary.csv"))
    return exported


def read_dictionary(connection: sa.Connection, marts: Sequence[str] = MARTS) -> list[Column]:
    """Returns the columns of marts in their order, with their comments."""
    return [Column(**row._mapping) for row in connection.execute(_SQL["dictionary"], {"marts": list(marts)})]


def _written(
    connection: sa.Connection,
    columns: Sequence[Column],
    path: Path,
    first: date,
    last: date,
    file_format: FileFormat,
) -> Exported:
    mart = columns[0].mart
    chosen = ", ".join(_selected(each, file_format) for each in columns)
    # COPY takes no parameters; both are dates, which have no quotes
    rows = f"SELECT {chosen} FROM bloodcell.{mart} WHERE night BETWEEN '{first:%Y-%m-%d}' AND '{last:%Y-%m-%d}'"  # noqa: S608
    copy = f"COPY ({rows} ORDER BY night, barcode) TO STDOUT (FORMAT csv, HEADER)"
    cursor = connection.connection.cursor()
    with atomic_file(path) as file:
        if file_format == "csv":
            cursor.copy_expert(copy, file)
            return Exported(path, int(cursor.rowcount))
        return Exported(path, _as_parquet(cursor, copy, columns, file))


def _selected(column: Column, file_format: FileFormat) -> str:
    if file_format == "csv" and column.type in _TEXT:
        name = column.name
        return f"CASE WHEN {name} ~ '^{_FORMULA}' THEN '''' || {name} ELSE {name} END AS {name}"
    return f'"{column.name}"'


def _as_parquet(cursor: Any, copy: str, columns: Sequence[Column], out: IO[bytes]) -> int:
    """Writes what a COPY sends as Parquet, and returns the number of rows."""
    import pyarrow.csv
    import pyarrow.parquet

    read_end, write_end = os.pipe()
    failure: list[BaseException] = []

    def send(file: IO[bytes]) -> None:
        try:
            with file:
                cursor.copy_expert(copy, file)
        except BaseException as error:  # raised below, in the thread that waits
            failure.append(error)

    sender = threading.Thread(target=send, args=(os.fdopen(write_end, "wb"),), name="copy")
    n_rows = 0
    with os.fdopen(read_end, "rb") as received:
        sender.start()
        try:
            schema = pyarrow.schema([(each.name, _arrow_type(each.type)) for each in columns])
            reader = pyarrow.csv.open_csv(
                received,
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=schema, strings_can_be_null=True,
                    null_values=[""], quoted_strings_can_be_null=False,
                    true_values=["t"], false_values=["f"],
                ),
            )  # fmt: skip
            with pyarrow.parquet.ParquetWriter(out, _described(schema, columns), compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch.cast(writer.schema) if batch.schema != writer.schema else batch)
                    n_rows += batch.num_rows
        except BaseException:
            received.close()  # ends the COPY
            sender.join()
            if failure and not isinstance(failure[0], BrokenPipeError):
                raise failure[0] from None
            raise
    sender.join()
    if failure:
        raise failure[0]
    return n_rows


def _described(schema: pyarrow.Schema, columns: Sequence[Column]) -> pyarrow.Schema:
    """Returns the schema with the comments of its columns."""
    import pyarrow

    fields = [field.with_metadata({"comment": each.comment}) for field, each in zip(schema, columns, strict=True)]
    return pyarrow.schema(fields)


def _arrow_type(of_postgres: str) -> pyarrow.DataType:
    import pyarrow

    known = {
        "date": pyarrow.date32(),
        "timestamp with time zone": pyarrow.timestamp("us", "UTC"),
        "boolean": pyarrow.bool_(),
        "integer": pyarrow.int32(),
        "bigint": pyarrow.int64(),
        "double precision": pyarrow.float64(),
        "real": pyarrow.float32(),
        "numeric": pyarrow.float64(),
    }
    return known.get(of_postgres, pyarrow.string())


def _dictionary_file(columns: Sequence[Column], path: Path) -> Exported:
    """Writes what each column means."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("mart", "column", "type", "meaning"))
    writer.writerows((each.mart, each.name, each.type, each.comment) for each in columns)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())
    return Exported(path, len(columns))
