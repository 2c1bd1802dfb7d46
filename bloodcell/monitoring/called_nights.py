"""A model's calls of the nights since its last check, added up by the database, and a sample of their cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from bloodcell.cells.cell_image import CellImage
from bloodcell.cells.classes import CELL_CLASSES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray

SLIDE_GROUPS: Final = 64
"""Groups that slides are put into: intervals come from drawing groups again, and their number bounds the memory."""

_FIRST_NIGHTS: Final = 31
"""Nights that the first check of a model goes back at most."""


@dataclass(frozen=True, slots=True)
class SampledCell:
    """A cell to run the model over again, and the slide group it is in."""

    image: CellImage
    slide_group: int


@dataclass(frozen=True, slots=True)
class CalledNights:
    """What a model called since its last check.

    Attributes:
        nights: In order; empty if nothing new was called.
        mix: int64 (n_slide_groups, 8), cells of each slide group by most probable class, in the order of
            `CELL_CLASSES`; without groups that have no cells.
    """

    nights: tuple[date, ...]
    mix: NDArray[np.int64]

    @property
    def n_cells(self) -> int:
        return int(self.mix.sum())


_NIGHTS: Final = """
    SELECT night FROM bloodcell."drop" d
    WHERE night > coalesce((SELECT max(until_night) FROM bloodcell.model_check WHERE model_id = :model),
                           (SELECT max(night) FROM bloodcell."drop") - :first)
      AND EXISTS (SELECT 1 FROM bloodcell.cell_call k WHERE k.night = d.night AND k.model_id = :model)
    ORDER BY night
"""
_CALLS: Final = """
    FROM bloodcell.cell_call k JOIN bloodcell.cell c USING (cell_id, night)
    WHERE k.model_id = :model AND k.night = ANY (:nights)
"""
_MIX: Final = f"SELECT c.slide_id % {SLIDE_GROUPS}, k.top_class, count(*) {_CALLS} GROUP BY 1, 2"
_TALLY: Final = (
    f"SELECT c.slide_id % {SLIDE_GROUPS}, width_bucket(k.{{value}}::float8, CAST(:edges AS float8[])), count(*) "
    f"{_CALLS} AND k.top_class = ANY (:classes) GROUP BY 1, 2"
)
# a digest is as good as a random number, and the same on every machine: each night in turn gives its lowest
_SAMPLE: Final = f"""
    SELECT cell_id, night, sha256, slide_id % {SLIDE_GROUPS} FROM (
        SELECT c.cell_id, c.night, c.sha256, c.slide_id,
               row_number() OVER (PARTITION BY c.night ORDER BY c.sha256, c.cell_id) AS position {_CALLS}
    ) s WHERE position <= :n ORDER BY position, night LIMIT :n
"""  # noqa: S608


def read_nights(connection: sa.Connection, model_id: str) -> CalledNights:
    """Returns the class mix of the nights with calls of a model, after the last night that a check judged."""
    values = {"model": model_id, "first": _FIRST_NIGHTS}
    nights = tuple(connection.scalars(sa.text(_NIGHTS), values))
    found = _read(connection, _MIX, model_id, nights)
    rows = [(slide_group, CELL_CLASSES.index(top), n_cells) for slide_group, top, n_cells in found]
    return CalledNights(nights, _table(rows, len(CELL_CLASSES)))


def tally_value(
    connection: sa.Connection,
    model_id: str,
    nights: Sequence[date],
    value: str,
    classes: Sequence[str],
    edges: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Returns int64 (n_slide_groups, len(edges) + 1), cells of each slide group by bin of `value`.

    Args:
        connection: Where to read.
        model_id: The model that called the cells.
        nights: The nights to count.
        value: confidence or novelty.
        classes: Only cells with these most probable classes.
        edges: Inner edges of the bins, ascending; a value on an edge belongs above it.
    """
    if value not in ("confidence", "novelty"):
        raise ValueError(f"Expected confidence or novelty. Received: {value!r}")
    given = {"edges": edges.tolist(), "classes": list(classes)}
    rows = _read(connection, _TALLY.format(value=value), model_id, nights, **given)
    return _table(rows, len(edges) + 1)


def sample_cells(connection: sa.Connection, model_id: str, nights: Sequence[date], n_cells: int) -> list[SampledCell]:
    """Returns at most `n_cells` cells, spread over the nights; always the same cells for the same nights."""
    rows = _read(connection, _SAMPLE, model_id, nights, n=n_cells)
    return [SampledCell(CellImage(cell_id, night, sha256), group) for cell_id, night, sha256, group in rows]


def _read(
    connection: sa.Connection, statement: str, model_id: str, nights: Sequence[date], **values: Any
) -> list[tuple[Any, ...]]:
    found = connection.execute(sa.text(statement), {"model": model_id, "nights": list(nights), **values})
    return [tuple(row) for row in found]


def _table(rows: Sequence[tuple[Any, ...]], n_columns: int) -> NDArray[np.int64]:
    slide_groups = sorted({row[0] for row in rows})
    table = np.zeros((len(slide_groups), n_columns), np.int64)
    for slide_group, column, n_cells in rows:
        table[slide_groups.index(slide_group), column] = n_cells
    return table
