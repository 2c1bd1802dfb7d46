"""Small coloured cells of several patients, ingested and labelled, as a retraining needs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.ingest import ingest_night
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from tests.small_cells import draw

NIGHT = "2026-03-14"


def make_night(
    settings: Settings, night: str = NIGHT, *, patients: Sequence[str], cells_per_class: int = 4
) -> dict[tuple[str, str], str]:
    """Ingests a night with a slide for each patient; returns (barcode, file name) -> the cell's true class."""
    folder = settings.drops / night
    truth: dict[tuple[str, str], str] = {}
    for number, patient in enumerate(patients):
        barcode = f"{night.replace('-', '')}-{number}"
        (folder / barcode).mkdir(parents=True)
        (folder / barcode / "slide.json").write_text(json.dumps({"barcode": barcode, "patient_key": patient}))
        for each, cell_class in enumerate(CELL_CLASSES * cells_per_class):
            rng = np.random.default_rng((int(night.replace("-", "")), number, each))
            name = f"LY_{each:08d}.png"  # the analyser's code is the same for all cells
            draw(cell_class, rng).save(folder / barcode / name)
            truth[barcode, name] = cell_class
    (folder / ".complete").touch()
    ingest_night(folder, settings)
    return truth


def label_cells(
    settings: Settings,
    truth: dict[tuple[str, str], str],
    *,
    by: str = "dr.a",
    is_blind: bool = True,
    is_adjudication: bool = False,
    labelled_as: Callable[[str], str | None] = lambda cell_class: cell_class,
    at: datetime | None = None,
) -> None:
    """Enters a label for each cell: `labelled_as` of its true class, or a smudge cell where that is None."""
    database = open_database(settings)
    with database.begin() as connection:
        found = connection.execute(
            sa.text(
                "SELECT s.barcode, c.file_name, c.cell_id FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)"
            )
        )
        ids = {(row.barcode, row.file_name): row.cell_id for row in found}
        rows = [
            {
                "cell_id": ids[cell],
                "class": entered,
                "sub_label": None if entered else "SMU",
                "labelled_by": by,
                "labelled_at": at or datetime.now(UTC),
                "is_blind": is_blind,
                "is_adjudication": is_adjudication,
                "source": "csv",
            }
            for cell, cell_class in truth.items()
            for entered in [labelled_as(cell_class)]
        ]
        connection.execute(sa.insert(tables.label), rows)
