"""Calls become rows of the database, by COPY, in transactions that may be repeated."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.storage.tables import cell_call

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.cells.cell_image import CellImage

_COLUMNS: Final = tuple(column.name for column in cell_call.columns if column.name not in {"run_id", "called_at"})
_REPLACE: Final = sa.text(
    "SELECT bloodcell.replace_calls(array_agg(cell_id), array_agg(night), array_agg(CAST(model_id AS text)), :run_id) "
    "FROM new_call HAVING count(*) > 0"
)

# stored decimals: beyond them the same cell differs between machines and batch sizes (float32 sums)
_DECIMALS: Final = 5


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """One model's calls of some cells, with its outputs.

    Attributes:
        model_id: The id of the model.
        cells: The n cells.
        calls: The calls of these cells, in the same order.
        novelty: float32 (n,).
        probabilities: float32 (n, 8), in the order of `CELL_CLASSES`.
    """

    model_id: str
    cells: tuple[CellImage, ...]
    calls: Calls
    novelty: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def make_partitions(connection: sa.Connection, nights: Iterable[date]) -> None:
    """Creates the partitions of `cell_call` that the calls of these nights need."""
    for night in sorted({night.replace(day=1) for night in nights}):
        connection.execute(sa.select(sa.func.bloodcell.ensure_call_partition(night)))


def write_calls(connection: sa.Connection, run_id: uuid.UUID, calls: Iterable[ModelCalls], *, redo: bool) -> int:
    """Writes calls and returns the number of rows written.

    Args:
        connection: Where to write.
        run_id: The run that made the calls.
        calls: The calls of any models.
        redo: Also write the calls of cells that the model has already called. The former calls stay in former_call.
    """
    columns = ", ".join(_COLUMNS)
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE new_call ON COMMIT DROP AS SELECT {columns} FROM bloodcell.cell_call WITH NO DATA"  # noqa: S608
    )
    cursor: Any = connection.connection.cursor()  # psycopg2's own, the only one with COPY
    cursor.copy_expert(f"COPY new_call ({columns}) FROM STDIN", _as_copy_text(calls))
    if redo:
        connection.execute(_REPLACE, {"run_id": run_id})
    written = connection.execute(
        # in the order of the key, so that two runs on the same cells cannot deadlock
        sa.text(
            f"INSERT INTO bloodcell.cell_call ({columns}, run_id) SELECT {columns}, :run_id FROM new_call "  # noqa: S608
            "ORDER BY cell_id, model_id ON CONFLICT DO NOTHING"
        ),
        {"run_id": run_id},
    )
    return int(written.rowcount)


def _as_copy_text(calls: Iterable[ModelCalls]) -> io.StringIO:
    # numbers, dates, class names, codes (`registry.bundle.CODE_PATTERN`) and hexadecimal digits need no escaping
    lines = io.StringIO()
    for one in calls:
        probabilities = one.probabilities.round(_DECIMALS).tolist()
        for i, cell in enumerate(one.cells):
            top, reason = CELL_CLASSES[one.calls.top[i]], one.calls.reasons[i]
            row = [
                *(str(cell.cell_id), one.model_id, cell.night.isoformat(), one.calls.called[i], top, reason or r"\N"),
                *(f"{value:.{_DECIMALS}f}" for value in (one.calls.confidence[i], one.novelty[i], *probabilities[i])),
                one.calls.resembles[i] or r"\N",
            ]
            lines.write("\t".join(row) + "\n")
    lines.seek(0)
    return lines
