"""Fixtures of the label tests: a slide with cells, label files, and the labels afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.labels import LabelImport, import_labels
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.laboratory import Laboratory

AT = "2026-03-15T09:30:00+01:00"
INSTANT = datetime(2026, 3, 15, 8, 30, tzinfo=UTC)
HEADER = "slide,file,label,labelled_by,labelled_at"

Labelled = Callable[..., LabelImport]
Rows = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    return Laboratory(database)


@pytest.fixture
def cells(laboratory: Laboratory) -> list[int]:
    """Cells 0.jpg to 9.jpg of slide S1."""
    return laboratory.cells(laboratory.slide("S1"), ["LY"] * 10, names=[f"{n}.jpg" for n in range(10)])


@pytest.fixture
def labelled(settings: Settings, tmp_path: Path) -> Labelled:
    """A function that imports a file with the given lines, below the usual header or the one in `header`."""

    def run(
        *lines: str, header: str = HEADER, body: bytes | None = None, partial: bool = False, by: str | None = None
    ) -> LabelImport:
        file = tmp_path / "labels.csv"
        file.write_bytes("".join(f"{line}\n" for line in (header, *lines)).encode() if body is None else body)
        return import_labels(file, settings, partial=partial, labelled_by=by)

    return run


@pytest.fixture
def rows(database: Database) -> Rows:
    def read(statement: str) -> list[tuple[object, ...]]:
        with database.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    return read


def texts(done: LabelImport) -> list[str]:
    return [f"{error.row}: {error.text}" for error in done.errors]
