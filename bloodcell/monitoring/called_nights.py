"""A model's calls in the nights since its last check, added up by the database, and a sample of their cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from bloodcell.cells.cell_image import CellImage
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray

_SQL: Final = load_statements("monitoring/called_nights.sql")

SLIDE_BUCKETS: Final = 64
"""Buckets that slides are put into: intervals come from resampling them, and their number bounds the memory."""

_FIRST_NIGHTS: Final = 31
"""The most nights that the first check of a model goes back."""


@dataclass(frozen=True, slots=True)
class SampledCell:
    """A cell to run the model on again, and the slide bucket that it is in."""

    image: CellImage
    slide_bucket: int


@dataclass(frozen=True, slots=True)
class CalledNights:
    """What a model called since its last check.

    Attributes:
        nights: In order; empty if nothing new was called.
        mix: int64 (n_slide_buckets, 8), cells of each slide bucket by most probable class, in the order of
            `CELL_CLASSES`; without buckets that have no cells.
    """

    nights: tuple[date, ...]
    mix: NDArray[np.int64]

    @property
    def n_cells(self) -> int:
        return int(self.mix.sum())


def read_nights(connection: sa.Connection, model_id: str) -> CalledNights:
    """Returns the class mix of the nights with calls by a model, after the last night that a check judged."""
    values = {"model": model_id, "first": _FIRST_NIGHTS}
    nights = tuple(connection.scalars(_SQL["nights"], values))
    found = _read(connection, "class_mix", model_id, nights)
    rows = [(slide_bucket, CELL_CLASSES.index(top), n_cells) for slide_bucket, top, n_cells in found]
    return CalledNights(nights, _table(rows, len(CELL_CLASSES)))


def tally_value(
    connection: sa.Connection,
    model_id: str,
    nights: Sequence[date],
    value: str,
    classes: Sequence[str],
    edges: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Returns int64 (n_slide_buckets, len(edges) + 1), cells of each slide bucket by bin of `value`.

    Args:
        connection: Where to read.
        model_id: The model that called the cells.
        nights: The nights to count.
        value: confidence or novelty.
        classes: Only cells with these most probable classes.
        edges: Inner edges of the bins, ascending; a value on an edge belongs to the bin above.
    """
    if value not in ("confidence", "novelty"):
        raise ValueError(f"Expected confidence or novelty. Received: {value!r}")
    given = {"value": value, "edges": edges.tolist(), "classes": list(classes)}
    rows = _read(connection, "tally", model_id, nights, **given)
    return _table(rows, len(edges) + 1)


def sample_cells(connection: sa.Connection, model_id: str, nights: Sequence[date], n_cells: int) -> list[SampledCell]:
    """Returns at most `n_cells` cells, spread over the nights; always the same cells for the same nights."""
    rows = _read(connection, "sample", model_id, nights, n=n_cells)
    return [
        SampledCell(CellImage(cell_id, night, sha256), slide_bucket) for cell_id, night, sha256, slide_bucket in rows
    ]


def _read(
    connection: sa.Connection, statement: str, model_id: str, nights: Sequence[date], **values: Any
) -> list[tuple[Any, ...]]:
    given = {"model": model_id, "nights": list(nights), "slide_buckets": SLIDE_BUCKETS, **values}
    return [tuple(row) for row in connection.execute(_SQL[statement], given)]


def _table(rows: Sequence[tuple[Any, ...]], n_columns: int) -> NDArray[np.int64]:
    slide_buckets = sorted({row[0] for row in rows})
    table = np.zeros((len(slide_buckets), n_columns), np.int64)
    for slide_bucket, column, n_cells in rows:
        table[slide_buckets.index(slide_bucket), column] = n_cells
    return table
