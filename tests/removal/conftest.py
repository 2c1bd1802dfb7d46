"""A night with two patients, whose slides share an image: ingested, called, labelled and in a snapshot."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.ingest import ingest_night
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from tests.ingest.night import NIGHT, NightFolder, picture
from tests.laboratory import CHAMPION, Laboratory

PATIENT, ORDER, BARCODES = "PÄT-4711", "ORDER-88", ("S26-000001", "S26-000002")
OTHER = "S26-000009"
SHARED_SEED = 7


@dataclass(frozen=True, slots=True)
class Ward:
    """The rows and files of a patient to erase, and of one who stays."""

    settings: Settings
    database: Database
    night: NightFolder
    laboratory: Laboratory

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with connect(str(self.settings.plain_database_url)).connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def counts(self) -> dict[str, object]:
        return {t.name: self.rows(f'SELECT count(*) FROM bloodcell."{t.name}"')[0][0] for t in TABLES}

    def everything(self) -> str:
        """Returns all rows of all tables as text."""
        return "\n".join(str(self.rows(f'SELECT r::text FROM bloodcell."{t.name}" r')) for t in TABLES)

    def stored(self) -> set[str]:
        return {path.name for path in Path(self.settings.store).glob("images/*/*")}

    def traces(self, names: Sequence[str]) -> list[str]:
        """Returns where one of the names occurs: in the database, or in a file or its path below the data folder."""
        text = self.everything()
        found = [f"database: {name}" for name in names if name in text]
        for path in self.settings.data_dir.rglob("*"):
            if path.is_file() and not path.is_relative_to(self.settings.drops):
                body = path.read_bytes()
                found += [f"{path}: {name}" for name in names if name.encode() in body or name in str(path)]
        return found


TABLES = tables.metadata.sorted_tables


def digest(seed: int) -> str:
    return hashlib.sha256(picture(seed)).hexdigest()


@contextmanager
def unmounted(settings: Settings) -> Iterator[None]:
    """An empty folder in the place of the store, as where a share is not mounted."""
    store = Path(settings.store)
    away = store.rename(store.with_name("away"))
    store.mkdir()
    try:
        yield
    finally:
        store.rmdir()
        away.rename(store)


@pytest.fixture
def ward(settings: Settings, database: Database) -> Ward:
    night = NightFolder(settings.drops)
    for number, barcode in enumerate(BARCODES):
        night.record(barcode, patient_key=PATIENT, order_id=ORDER, acquired_at="2026-11-21T08:00:00+01:00")
        for cell in range(3):
            night.cell(barcode, cell, seed=100 * (number + 1) + cell)
    night.cell(BARCODES[0], 7, seed=SHARED_SEED)
    night.write(f"{BARCODES[0]}/SNE_9.png", b"no image")
    night.write(f"loose {BARCODES[0]}.png", picture(1))
    night.record(OTHER, patient_key="P-2", order_id="ORDER-99")
    night.cell(OTHER, 7, seed=SHARED_SEED)
    night.cell(OTHER, 8, seed=300)
    night.complete()
    ingest_night(night.path, settings)
    laboratory = Laboratory(database, date(2026, 3, 14))
    laboratory.night = NIGHT
    ward = Ward(settings, database, night, laboratory)
    laboratory.model()
    cells = [int(str(cell)) for (cell,) in ward.rows("SELECT cell_id FROM bloodcell.cell ORDER BY 1")]
    with database.begin() as connection:
        connection.execute(sa.text("SELECT bloodcell.ensure_call_partition(:night)"), {"night": NIGHT})
    laboratory.call(cells, ["neutrophil"] * len(cells))
    label_ids = laboratory.label(
        cells, ["neutrophil"] * len(cells), note=f"as on {BARCODES[1]}", at="2026-11-22 09:00+00"
    )
    laboratory.dataset("d16e57", [(cell, "holdout") for cell in cells[:2]] + [(cells[-1], "training")])
    laboratory.count()
    laboratory.call_again("neutrophil")
    with database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO bloodcell.receiver (name, protocol, gets_unsigned) VALUES ('lis', 'hl7', false)"
        )
    laboratory.sign(BARCODES[1], 1)
    laboratory.sign(OTHER, 1, reason=f"not the blood of {BARCODES[0]}")
    with database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO bloodcell.lab_order (barcode, order_id, action, sender, control_id, message_digest, position, "
            f"is_conflict) VALUES ('{BARCODES[0]}', '{ORDER}', 'new', 'LIS', 'm1', 'd', 1, false)"
        )
        connection.exec_driver_sql(
            "INSERT INTO bloodcell_identity.patient_identity "
            "SELECT lab_order_id, 'k', 't', now() FROM bloodcell.lab_order"
        )
        for written in (
            "message_attempt (message_id, started_at, outcome, answer) "
            f"SELECT message_id, now(), 'rejected', 'unknown: {BARCODES[0]}'",
            "message_action (message_id, action, reason, requested_by) "
            f"SELECT message_id, 'skip', 'see {BARCODES[0]}', 'anna'",
        ):
            connection.execute(sa.text(f"INSERT INTO bloodcell.{written} FROM bloodcell.outgoing_message"))
        checked = [
            {
                "model_id": CHAMPION, "cell_id": cell, "label_id": label, "class": "neutrophil",
                "called_class": "neutrophil", "is_blind": False, "is_training": False, "run_id": laboratory.run_id,
            }
            for cell, label in zip(cells, label_ids, strict=True)
        ]  # fmt: skip
        connection.execute(tables.checked_cell.insert(), checked)
        connection.execute(
            tables.run.insert(),
            {
                "run_id": uuid.uuid4(), "stage": "ingest", "code_version": "x", "host": "x", "state": "failed",
                "error": f"slide {BARCODES[0]}: disk full", "detail": {"failed": {BARCODES[0]: "OSError"}},
            },
        )  # fmt: skip
        connection.execute(
            tables.label_file.insert(),
            {
                "path": f"{BARCODES[0]}.csv", "sha256": "0" * 64, "outcome": "quarantined",
                "reason": f"row 2: no slide '{BARCODES[0]}'", "n_rows": 1, "n_labels": 0, "run_id": laboratory.run_id,
            },
        )  # fmt: skip
        connection.execute(sa.text("UPDATE bloodcell.drop_file SET reason = 'truncated' WHERE reason = 'not_an_image'"))
    logs = settings.data_dir / "airflow" / "logs" / "dag_id=nightly_run"
    logs.mkdir(parents=True)
    (logs / "attempt=1.log").write_text(f'{{"event": "Slides added up: {BARCODES[0]}, {OTHER}"}}\n' * 3)
    reports = settings.data_dir / "reports"
    reports.mkdir()
    (reports / f"{BARCODES[0]}.html").write_text(f"<h1>{BARCODES[0]}</h1>")
    (reports / "2026-11-21.html").write_text(f"<p>P&#228;t</p><td>{BARCODES[0]}</td><td>{OTHER}</td>")
    shelf = settings.data_dir / "training" / "features" / "v3-vgg16-160-0" / "middle-0123"
    shelf.mkdir(parents=True)
    (shelf / "images.txt").write_text(f"{digest(100)}\n{digest(300)}\n")
    (shelf / "rows.bin").write_bytes(bytes(64))
    return ward
