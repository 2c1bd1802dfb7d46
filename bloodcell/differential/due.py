"""The stage's entry: the slides whose differentials are due get them written, under a recorded run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.database.engine import open_database, transact
from bloodcell.database.runs import recorded_run
from bloodcell.differential.writing import write_differentials

if TYPE_CHECKING:
    from bloodcell.settings import Settings

_OF_NIGHT_OR_SLIDES = """
    SELECT s.slide_id, s.barcode FROM bloodcell.slide s
    WHERE (CAST(:night AS date) IS NULL
           OR EXISTS (SELECT 1 FROM bloodcell.cell c WHERE c.slide_id = s.slide_id AND c.night = :night))
      AND (cardinality(CAST(:slides AS text[])) = 0 OR s.barcode = ANY (:slides))
    ORDER BY s.barcode
"""
# called by a serving model, but reported by it never, or before the slide's last cells came:
# also what a run that died between classifying and adding up has left behind
_NOT_REPORTED = """
    SELECT s.slide_id, s.barcode FROM bloodcell.slide s
    WHERE EXISTS (
        SELECT 1 FROM bloodcell.serving_model m
        LEFT JOIN bloodcell.slide_report r ON r.slide_id = s.slide_id AND r.model_id = m.model_id
        WHERE r.n_cells IS DISTINCT FROM (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = s.slide_id)
          AND EXISTS (SELECT 1 FROM bloodcell.cell c JOIN bloodcell.cell_call k USING (cell_id, night)
                      WHERE c.slide_id = s.slide_id AND k.model_id = m.model_id))
    ORDER BY s.barcode
"""


def write_due_differentials(
    settings: Settings,
    *,
    night: date | None = None,
    slides: Sequence[str] = (),
    airflow_run: str | None = None,
) -> list[str]:
    """Writes the differentials of a night, of some slides, or of all slides that lack one; returns their barcodes.

    Args:
        settings: Where the database is, and the smallest sufficient count.
        night: Slides with cells of this night.
        slides: These barcodes. With neither, every slide that was called but not reported since.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Raises:
        DatabaseUnavailableError: Postgres stayed away. What was written before stays; call again.
    """
    engine = open_database(settings)
    query = _OF_NIGHT_OR_SLIDES if night or slides else _NOT_REPORTED
    patience_s = settings.database_patience_s

    def find(connection: sa.Connection) -> dict[int, str]:
        values = {"night": night, "slides": list(slides)} if night or slides else {}
        return {slide_id: barcode for slide_id, barcode in connection.execute(sa.text(query), values)}

    due = transact(engine, find, patience_s=patience_s)
    if not due:
        return []
    with recorded_run(engine, "differential", patience_s=patience_s, night=night, airflow_run=airflow_run) as run:
        n = write_differentials(engine, slides=list(due), model_id=None, run_id=run.run_id, settings=settings)
        run.detail |= {"slides": len(due), "slide_reports": n}
    return list(due.values())
