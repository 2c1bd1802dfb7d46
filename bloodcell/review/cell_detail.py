"""Reads what the large view of a cell shows, and which image is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bloodcell.errors import UnknownRecordError
from bloodcell.review.desk_records import CellDetail, ExampleCell, ExampleCells, HistoryLabel
from bloodcell.review.slide_page import probabilities
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import sqlalchemy as sa

_SQL: Final = load_statements("review/cell_detail.sql")
_EXAMPLES: Final = 6


def cell_detail(connection: sa.Connection, slide_id: int, cell_id: int) -> CellDetail:
    """Returns what the large view of a cell shows besides the gallery's facts.

    Raises:
        UnknownRecordError: The slide has no such cell.
    """
    of_cell = {"slide_id": slide_id, "cell_id": cell_id}
    row = connection.execute(_SQL["cell"], of_cell).one_or_none()
    if row is None:
        raise UnknownRecordError("The slide has no such cell.")
    choices = probabilities(row)
    return CellDetail(
        cell_id=cell_id,
        probabilities=choices,
        width_px=row.width_px,
        height_px=row.height_px,
        history=[
            HistoryLabel(
                by=each.labelled_by,
                label=each.label,
                at=each.recorded_at,
                is_blind=each.is_blind,
                is_adjudication=each.is_adjudication,
                is_retraction=each.is_retraction,
                note=each.note,
            )
            for each in connection.execute(_SQL["history"], of_cell)
        ],
        examples=[ExampleCells(line, _examples(connection, slide_id, line)) for line, _ in choices[:2]],
    )


def image_of(connection: sa.Connection, slide_id: int, cell_id: int) -> str:
    """Returns the digest of a cell's image.

    Raises:
        UnknownRecordError: The slide has no such cell, or its image was removed because of its age.
    """
    row = connection.execute(_SQL["image"], {"slide_id": slide_id, "cell_id": cell_id}).one_or_none()
    if row is None or row.image_removed_at is not None:
        raise UnknownRecordError("The slide has no such cell, or its image was removed because of its age.")
    return str(row.sha256)


def _examples(connection: sa.Connection, slide_id: int, line: str) -> list[ExampleCell]:
    rows = connection.execute(_SQL["examples"], {"slide_id": slide_id, "line": line, "most": _EXAMPLES})
    return [ExampleCell(f"/slides/{row.slide_id}/cells/{row.cell_id}/image") for row in rows]
