from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from bloodcell.errors import UnusableFileError
from bloodcell.ingest import IngestSummary, ingest_night
from bloodcell.ingest.slide_record import SlideRecord, parse_slide_record
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.ingest.night import NightFolder, picture

Ingested = Callable[[], IngestSummary]
Ledger = Callable[[], dict[str, tuple[str, str | None]]]


def test_a_record_is_read() -> None:
    body = b'{"barcode": "S1", "patient_key": "P1", "acquired_at": "2026-11-21T01:02:03+00:00", "name": "never kept"}'
    assert parse_slide_record(body, "S1") == SlideRecord(
        "S1", patient_key="P1", acquired_at=datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"patient_key": 7}',
        b'{"patient_key": "P\\u0000"}',
        b'{"patient_key": "' + b"P" * 201 + b'"}',
        b'{"acquired_at": "2026-11-21T01:02:03"}',
        b"[" * 50_000,
        b" " * 70_000,
    ],
)
def test_an_unusable_record_is_refused_with_its_reason(body: bytes) -> None:
    with pytest.raises(UnusableFileError) as caught:
        parse_slide_record(body, "S1")
    assert caught.value.reason == "slide_record"


def test_a_slide_without_a_readable_record_keeps_its_cells(
    night: NightFolder, ingested: Ingested, ledger: Ledger, database: Database
) -> None:
    night.write("S1/slide.json", b"{not json")
    night.cell("S1", 1)
    night.complete()
    ingested()
    assert ledger()["S1/slide.json"] == ("quarantined", "slide_record")
    assert ledger()["S1/SNE_00000001.png"] == ("cell", None)
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT record_state FROM bloodcell.slide")) == "unreadable"


def test_a_record_of_any_size_is_set_aside_and_its_slide_does_not_wait(
    night: NightFolder, ingested: Ingested, ledger: Ledger
) -> None:
    night.write("S1/slide.json", b" " * 100_000)
    night.cell("S1", 1)
    night.complete()
    assert ingested().n_waiting_folders == 0
    assert ledger()["S1/slide.json"] == ("quarantined", "slide_record")


def test_a_corrected_record_completes_the_slide(night: NightFolder, ingested: Ingested, database: Database) -> None:
    record = night.write("S1/slide.json", b"{not json")
    night.cell("S1", 1)
    night.complete()
    ingested()
    record.write_text('{"barcode": "S1", "patient_key": "P9"}')
    night.complete()
    ingested()
    with database.connect() as connection:
        slide = connection.execute(sa.text("SELECT record_state, patient_key FROM bloodcell.slide")).one()
    assert tuple(slide) == ("read", "P9")


def test_the_record_of_another_slide_sets_the_whole_slide_aside(
    night: NightFolder, ingested: Ingested, ledger: Ledger
) -> None:
    night.record("S1", patient_key="P1")
    (night.path / "S1").rename(night.path / "S2")
    night.write("S2/LY_1.png", picture(1))
    night.complete()
    summary = ingested()
    assert ledger()["S2/slide.json"] == ("quarantined", "slide_identity")
    assert ledger()["S2/LY_1.png"] == ("quarantined", "slide_identity")
    assert (summary.n_cells, summary.n_slides) == (0, 0)


def test_a_known_slide_of_another_patient_is_set_aside(settings: Settings, night: NightFolder, ledger: Ledger) -> None:
    night.record("S1", patient_key="P1")
    night.cell("S1", 1)
    night.complete()
    ingest_night(night.path, settings)
    later = NightFolder(settings.drops, date(2026, 11, 22))
    later.record("S1", patient_key="P2")
    later.cell("S1", 2)
    later.complete()
    assert ingest_night(later.path, settings).n_cells == 0
    assert ledger()["S1/SNE_00000002.png"] == ("quarantined", "slide_identity")
