"""The rows that cells of a night refer to, without an ingest or a model behind them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from bloodcell.storage import tables

if TYPE_CHECKING:
    import uuid

    import sqlalchemy as sa

NIGHT = date(2026, 1, 2)
MODEL = "c0" + 62 * "1"


def add_night(connection: sa.Connection, run_id: uuid.UUID) -> None:
    """Adds a run, its night `NIGHT`, and the model `MODEL`."""
    connection.execute(tables.run.insert().values(run_id=run_id, stage="ingest", code_version="0.2.0", host="bench"))
    connection.execute(tables.drop.insert().values(run_id=run_id, folder="bench", night=NIGHT))
    connection.execute(
        tables.model.insert().values(
            model_id=MODEL,
            variant="inception_v3",
            confidence_threshold=0.6,
            novelty_threshold=1.0,
            manifest={},
            created_at=datetime.now(UTC),
            registered_by="bench",
        )
    )
