"""What a model called in the nights since it was last looked at, added up by the database, and a sample of cells."""

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

GROUPS: Final = 64
"""Slides are put into so many groups: limits need groups that are drawn again, and memory is the same for any night."""

_FIRST_NIGHTS: Final = 31
"""Nights that the first look at a model goes back, at most."""


@dataclass(frozen=True, slots=True)
class SampledCell:
    """A cell to look at again, and the group of slides it is in."""

    image: CellImage
    group: int


@dataclass(frozen=True, slots=True)
class Nights:
    """What a model called since it was last looked at.

    Attributes:
        nights: In order; empty where nothing new was called.
        mix: int64 (n_groups, 8), cells by group of slides and most probable class, in the order of `CELL_CLASSES`.
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
_MIX: Final = f"SELECT c.slide_id % {GROUPS}, k.top_class, count(*) {_CALLS} GROUP BY 1, 2"
_TALLY: Final = (
    f"SELECT c.slide_id % {GROUPS}, width_bucket(k.{{value}}::float8, CAST(:edges AS float8[])), count(*) {_CALLS} "
    "AND k.top_class = ANY (:classes) GROUP BY 1, 2"
)
# a digest is as good as a random number, and the same on every machine: of each night in turn its cell with the lowest
_SAMPLE: Final = f"""
    SELECT cell_id, night, sha256, slide_id % {GROUPS} FROM (
        SELECT c.cell_id, c.night, c.sha256, c.slide_id,
               row_number() OVER (PARTITION BY c.night ORDER BY c.sha256, c.cell_id) AS position {_CALLS}
    ) s WHERE position <= :n ORDER BY position, night LIMIT :n
"""  # noqa: S608


def read_nights(connection: sa.Connection, model_id: str) -> Nights:
    """Returns the class mix of the nights with calls of a model, after the last night it was judged by."""
    values = {"model": model_id, "first": _FIRST_NIGHTS}
    nights = tuple(connection.scalars(sa.text(_NIGHTS), values))
    found = _read(connection, _MIX, model_id, nights)
    rows = [(group, CELL_CLASSES.index(top), n_cells) for group, top, n_cells in found]
    return Nights(nights, _table(rows, len(CELL_CLASSES)))


def tally_value(
    connection: sa.Connection,
    model_id: str,
    nights: Sequence[date],
    value: str,
    classes: Sequence[str],
    edges: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Returns int64 (n_groups, len(edges) + 1), cells by group of slides and bin of `value`.

    Args:
        connection: Where to read.
        model_id: Whose calls.
        nights: Of which nights.
        value: confidence or novelty.
        classes: Cells of these most probable classes.
        edges: Inner edges of the bins, ascending; a value on an edge belongs above it.
    """
    if value not in ("confidence", "novelty"):
        raise ValueError(f"Expected confidence or novelty. Received: {value!r}")
    given = {"edges": edges.tolist(), "classes": list(classes)}
    rows = _read(connection, _TALLY.format(value=value), model_id, nights, **given)
    return _table(rows, len(edges) + 1)


def sample_cells(connection: sa.Connection, model_id: str, nights: Sequence[date], n_cells: int) -> list[SampledCell]:
    """Returns at most `n_cells` cells, spread over the nights; the same cells whenever it is asked."""
    rows = _read(connection, _SAMPLE, model_id, nights, n=n_cells)
    return [SampledCell(CellImage(cell_id, night, sha256), group) for cell_id, night, sha256, group in rows]


def _read(
    connection: sa.Connection, statement: str, model_id: str, nights: Sequence[date], **values: Any
) -> list[tuple[Any, ...]]:
    found = connection.execute(sa.text(statement), {"model": model_id, "nights": list(nights), **values})
    return [tuple(row) for row in found]


def _table(rows: Sequence[tuple[Any, ...]], n_columns: int) -> NDArray[np.int64]:
    groups = sorted({row[0] for row in rows})
    table = np.zeros((len(groups), n_columns), np.int64)
    for group, column, n_cells in rows:
        table[groups.index(group), column] = n_cells
    return table
