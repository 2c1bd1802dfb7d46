"""The stage itself: the slides that are due get their differentials, under a recorded run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.differential.differential_rows import write_differentials
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from bloodcell.settings import Settings

# Asked for by night or barcode, every slide is looked at. Else only those called by a model that has no report over
# all their cells, or that were added up before there was a champion. One cell of a slide tells whether it was called:
# where that one was not, the slide is not complete.
_DUE: Final = """
    SELECT s.slide_id, s.barcode FROM bloodcell.slide s
    WHERE (CAST(:night AS date) IS NULL
           OR EXISTS (SELECT 1 FROM bloodcell.cell c WHERE c.slide_id = s.slide_id AND c.night = :night))
      AND (cardinality(CAST(:slides AS text[])) = 0 OR s.barcode = ANY (:slides))
      AND (CAST(:night AS date) IS NOT NULL OR cardinality(CAST(:slides AS text[])) > 0
           OR EXISTS (
               SELECT 1 FROM bloodcell.cell_call k
               WHERE (k.cell_id, k.night) = (
                   SELECT c.cell_id, c.night FROM bloodcell.cell c WHERE c.slide_id = s.slide_id LIMIT 1)
                 AND NOT EXISTS (
                     SELECT 1 FROM bloodcell.slide_report r
                     WHERE r.slide_id = s.slide_id AND r.model_id = k.model_id AND r.n_cells = (
                         SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = s.slide_id)))
           OR EXISTS (
               SELECT 1 FROM bloodcell.slide_report r JOIN bloodcell.promotion p USING (model_id)
               WHERE r.slide_id = s.slide_id
                 AND NOT EXISTS (SELECT 1 FROM bloodcell.slide_reported_model m WHERE m.slide_id = s.slide_id)))
    ORDER BY s.barcode
"""


def write_due_differentials(
    settings: Settings,
    *,
    night: date | None = None,
    slides: Sequence[str] = (),
    airflow_run: str | None = None,
) -> list[str]:
    """Returns the barcodes of the slides that have a differential over all their cells now.

    Args:
        settings: Where the database is, and what a sufficient count is.
        night: Only slides with cells of this night; None for all nights.
        slides: Only these barcodes; empty for all.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Raises:
        DatabaseUnavailableError: Postgres stayed away; call again.
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
    """Slide id -> barcode."""
    rows = connection.execute(sa.text(_DUE), {"night": night, "slides": list(slides)})
    return {slide_id: barcode for slide_id, barcode in rows}
