"""The cells of a shard that models have not called yet, in passes and pages.

Cells that the same models have not called go through the network together: a pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from bloodcell.cells.cell_image import CellImage
from bloodcell.storage.statements import load_statements
from bloodcell.storage.tables import slide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.classify.shards import Shard

PAGE_CELLS: Final = 4096
"""Cells read at a time, so that memory does not grow with the night."""

_SQL: Final = load_statements("classify/uncalled_cells.sql")
_LACKING: Final = (
    _SQL["lacking"]
    .columns(sa.column("cell_id"), sa.column("night"), sa.column("sha256"), sa.column("lacking", ARRAY(sa.Text)))
    .subquery("lacking")
)


def passes_of(connection: sa.Connection, shard: Shard) -> list[list[str]]:
    """Returns the model ids of each pass, the pass with the most cells first; empty if nothing is left to do."""
    models = _LACKING.c.lacking
    statement = (
        sa.select(models)
        .where(sa.func.cardinality(models) > 0)
        .group_by(models)
        .order_by(sa.func.count().desc(), models)
    )
    return [list(each) for each in connection.scalars(statement, _values(shard))]


def page_of(connection: sa.Connection, shard: Shard, models: Sequence[str], after: int) -> list[CellImage]:
    """Returns the next cells of a pass, at most `PAGE_CELLS`, in the order of their ids.

    Args:
        connection: Where to read.
        shard: From `plan_shards`.
        models: Model ids of the pass.
        after: Only cells with a larger id.
    """
    cells = _LACKING.c
    statement = (
        sa.select(cells.cell_id, cells.night, cells.sha256)
        .where(cells.lacking == list(models), cells.cell_id > after)
        .order_by(cells.cell_id)
        .limit(PAGE_CELLS)
    )
    return [CellImage(*row) for row in connection.execute(statement, _values(shard))]


def barcodes_of(connection: sa.Connection, shard: Shard) -> tuple[str, ...]:
    """Returns the barcodes of a shard's slides, sorted."""
    statement = sa.select(slide.c.barcode).where(slide.c.slide_id.in_(shard.slide_ids)).order_by(slide.c.barcode)
    return tuple(connection.scalars(statement))


def _values(shard: Shard) -> dict[str, object]:
    return {"slides": list(shard.slide_ids), "models": list(shard.model_ids), "redo": shard.redo}
