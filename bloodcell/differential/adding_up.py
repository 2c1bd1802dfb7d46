"""The stage itself: writes the differentials of the slides that are due, in a recorded run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.differential.differential_rows import write_differentials
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from bloodcell.settings import Settings

_SQL: Final = load_statements("differential/adding_up.sql")


def write_due_differentials(
    settings: Settings,
    *,
    night: date | None = None,
    slides: Sequence[str] = (),
    airflow_run: str | None = None,
) -> list[str]:
    """Returns the barcodes of the slides that now have a differential over all their cells.

    Args:
        settings: The database, and the number of leucocytes that makes a count sufficient.
        night: Only slides with cells of this night; None: all nights.
        slides: Only these barcodes; empty: all.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        DatabaseUnavailableError: Postgres stayed unavailable; call again.
    """
    database = open_database(settings)
    due = database.transact(lambda c: _due(c, night, slides))
    if not due:
        return []
    with recorded_run(database, "differential", night=night, airflow_run=airflow_run) as run:
        written = write_differentials(database, slides=due, model_id=None, run_id=run.run_id, settings=settings)
        run.detail |= {"slides": len(written.slide_ids), "differentials_written": written.n_written}
    return [barcode for slide_id, barcode in due.items() if slide_id in written.slide_ids]


def _due(connection: sa.Connection, night: date | None, slides: Sequence[str]) -> dict[int, str]:
    """Returns slide id -> barcode of the slides that are due."""
    rows = connection.execute(_SQL["due_slides"], {"night": night, "slides": list(map(composed, slides))})
    return {slide_id: barcode for slide_id, barcode in rows}
