"""A laboratory in which two slides were ingested, classified and reported during a night."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pytest
import sqlalchemy as sa

from bloodcell.ingest import IngestSummary, ingest_night
from bloodcell.results import write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.withdrawal import Withdrawal, WithdrawalRequest, withdraw_slide
from tests.ingest.night import NIGHT, NightFolder
from tests.laboratory import CHALLENGER, Laboratory

TIMES = {"A": "2026-11-21T20:00:00Z", "B": "2026-11-21T20:10:00Z"}


class Clinic:
    """The slides A (neutrophils, patient p-A) and B (lymphocytes, patient p-B), reported under these barcodes."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings
        self.laboratory = Laboratory(database, NIGHT)
        self.laboratory.model(CHALLENGER, "vgg16", promote=False)
        self.laboratory.model()
        self.folder = NightFolder(settings.drops)
        for barcode, code, first in (("A", "SNE", 0), ("B", "LY", 100)):
            self.deliver(barcode, range(first, first + 4), code)
        self.ingest()
        self.classify()

    def deliver(self, barcode: str, numbers: Sequence[int], code: str, folder: NightFolder | None = None) -> None:
        """Writes cells into the slide's folder; the number decides which image a cell has."""
        folder = folder or self.folder
        for number in numbers:
            folder.cell(barcode, number, code=code)
        if barcode in TIMES:
            folder.record(barcode, order_id=f"O-{barcode}", patient_key=f"p-{barcode}", acquired_at=TIMES[barcode])

    def ingest(self, folder: NightFolder | None = None) -> IngestSummary:
        return ingest_night((folder or self.folder).path, self.settings)

    def classify(self) -> list[str]:
        """Lets both models call every cell that is not called yet as the analyser does, and adds the calls up."""
        uncalled = self.rows(
            "SELECT cell_id, analyser_class, night FROM bloodcell.cell "
            "WHERE NOT EXISTS (SELECT FROM bloodcell.cell_call k WHERE k.cell_id = cell.cell_id)"
        )
        for cell_id, cell_class, night in uncalled:
            assert isinstance(cell_id, int)
            assert isinstance(night, date)
            self.laboratory.night = night
            for model in (CHALLENGER, None):
                self.laboratory.call([cell_id], [str(cell_class)], *([model] if model else []))
        self.laboratory.night = NIGHT
        return write_due_results(self.settings)

    def withdraw(self, barcode: str, renamed_to: str | None = None, **more: object) -> Withdrawal:
        values = {"reason": "the label was scanned from the wrong rack", "requested_by": "anna", **more}
        return withdraw_slide(self.settings, WithdrawalRequest(barcode, renamed_to=renamed_to, **values))  # type: ignore[arg-type]

    def rows(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), values)]

    def reported(self) -> dict[object, tuple[object, ...]]:
        """Returns barcode -> patient, number of cells and the class of all of them, of what is reported now."""
        found = self.rows(
            "SELECT barcode, patient_key, order_id, n_cells, class FROM bloodcell.slide_differential "
            "WHERE is_reported AND n_cells > 0 ORDER BY barcode"
        )
        return {barcode: facts for barcode, *facts in ((*row,) for row in found)}  # type: ignore[misc]

    def ledger(self) -> list[tuple[object, ...]]:
        return self.rows(
            "SELECT barcode, outcome, reason, count(*) FROM bloodcell.file_account GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )


@pytest.fixture
def clinic(database: Database, settings: Settings) -> Clinic:
    return Clinic(database, settings)
