"""Writes the standing labels as a CSV file that can be imported again, and their images in folders by class."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.storage.atomic_write import atomic_file
from bloodcell.storage.database import Database
from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store

_SQL: Final = load_statements("labels/exporting.sql")


@dataclass(frozen=True, slots=True)
class LabelExport:
    """What was written.

    Attributes:
        n_labels: Rows of the file.
        n_images: Images written.
    """

    n_labels: int
    n_images: int


def export_labels(
    database: Database,
    out: Path,
    *,
    images: Path | None = None,
    store: Store | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> LabelExport:
    """Writes the standing labels, one row per person and cell, and if requested the images of uncontested cells.

    The file begins with a byte order mark, because some spreadsheets do not recognise UTF-8 without one. Text that a
    spreadsheet would read as a formula begins with an apostrophe. `import_labels` undoes both.

    Args:
        database: The database.
        out: The CSV file; it appears once it is complete.
        images: Folder for `<class or code>/<barcode>/<file>`, new or empty.
        store: Where the images are; needed for `images`.
        on_progress: Called with the name of a step, the amount done, and the total.

    Raises:
        ConfigurationError: The file or folder cannot be written, or the folder is not empty.
        StoreUnavailableError: An image cannot be read.
    """
    show = on_progress or (lambda *_: None)
    try:
        if images is not None:
            images.mkdir(parents=True, exist_ok=True)
            if any(images.iterdir()):
                raise ConfigurationError(f"The folder {images} is not empty: choose a new one for the images.")
        with database.connect() as connection:
            n_labels = _write_csv(connection, out)
            n_images = _write_images(connection, images, store, show) if images and store else 0
    except OSError as error:
        raise ConfigurationError(
            f"The labels cannot be written to {error.filename or out}: {error.strerror}. Choose another place."
        ) from error
    return LabelExport(n_labels, n_images)


def _write_csv(connection: sa.Connection, out: Path) -> int:
    with atomic_file(out) as file:
        file.write(b"\xef\xbb\xbf")
        cursor: Any = connection.connection.cursor()  # psycopg2's own, the only one with COPY
        labels = _SQL["labels"].compile(dialect=connection.dialect)
        cursor.copy_expert(f"COPY ({labels}) TO STDOUT WITH (FORMAT csv, HEADER, ENCODING 'UTF8')", _Bytes(file))
    return int(cursor.rowcount)


class _Bytes:
    """A file for COPY that receives bytes: psycopg2 passes str to a file opened for text, bytes to anything else."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, body: bytes) -> None:
        self._file.write(body)


def _write_images(connection: sa.Connection, folder: Path, store: Store, show: Callable[[str, int, int], None]) -> int:
    n_cells = connection.scalar(_SQL["count_images"]) or 0
    rows = connection.execution_options(yield_per=1_000).execute(_SQL["images"])
    for n, row in enumerate(rows, start=1):
        place = folder / row.label / _safe(row.barcode)
        place.mkdir(parents=True, exist_ok=True)
        (place / _safe(row.file_name)).write_bytes(store.read_image(row.sha256))
        show("Images", n, n_cells)
    return int(n_cells)


def _safe(name: str) -> str:
    """Returns a name that stays within its folder and is not hidden."""
    plain = re.sub(r"[/\\\x00-\x1f\x7f]", "_", name)
    return f"_{plain}" if plain.startswith(".") else plain
