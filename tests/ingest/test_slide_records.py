from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

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
        b'{"patient_key": "P1", "patient_key": "P2"}',
        b'{"Barcode": "S1", "PATIENT_KEY": "P1"}',
        b'{" patient_key": "P1"}',
        b'{"specimen": "S1"}',
        b"{}",
        b'{"patient_key": "  "}',
    ],
)
def test_an_unusable_record_is_refused_with_its_reason(body: bytes) -> None:
    with pytest.raises(UnusableFileError) as caught:
        parse_slide_record(body, "S1")
    assert caught.value.reason == "slide_record"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
_FIELD = st.sampled_from(["barcode", "order_id", "analyser", "patient_key", "acquired_at", "Barcode", "name"])
_VALUE = _JSON | st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat())


@given(
    st.binary(max_size=300)
    | st.dictionaries(_FIELD, _VALUE, max_size=6).map(lambda record: json.dumps(record).encode())
    | _JSON.map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_record_that_postgres_can_store_or_are_refused(body: bytes) -> None:
    try:
        record = parse_slide_record(body, "S1")
    except UnusableFileError as refused:
        assert refused.reason in ("slide_record", "slide_identity")
        return
    for text in (record.order_id, record.analyser, record.patient_key):
        assert text is None or (text.encode() and "\0" not in text)
    assert record.acquired_at is None or record.acquired_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("2026-03-14T02:00:00+16:00", "2026-03-13 10:00:00+00"),  # Postgres knows no offset beyond 15:59:59
        ("2026-03-14T02:00:00-23:59", "2026-03-15 01:59:00+00"),
        ("2026-03-14T02:00:00+01:00", "2026-03-14 01:00:00+00"),
    ],
)
def test_times_are_stored_in_utc_whatever_their_offset(
    night: NightFolder, ingested: Ingested, database: Database, written: str, stored: str
) -> None:
    night.record("S1", acquired_at=written)
    night.cell("S1", 1)
    night.complete()
    assert ingested().n_cells == 1
    with database.connect() as connection:
        connection.execute(sa.text("SET TIME ZONE 'UTC'"))
        assert connection.scalar(sa.text("SELECT acquired_at::text FROM bloodcell.slide")) == stored


@pytest.mark.parametrize(
    "written",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", 1e300],
)
def test_a_time_that_no_slide_was_acquired_at_is_refused_and_shown(written: str | float) -> None:
    with pytest.raises(UnusableFileError, match="acquired_at: ") as caught:
        parse_slide_record(json.dumps({"acquired_at": written}).encode(), "S1")
    assert caught.value.reason == "slide_record"


@pytest.mark.parametrize("spelling", ["J\u00fcrgen-7", " Ju\u0308rgen-7", "Ju\u0308rgen-7\u00a0"])
def test_spellings_of_one_key_are_one_patient(spelling: str) -> None:
    record = parse_slide_record(json.dumps({"patient_key": spelling}).encode(), "S1")
    assert record.patient_key == "J\u00fcrgen-7"


@pytest.mark.parametrize(
    "identity",
    ["Smith, John", "SMITH JOHN", "Smith^John^A.", "Müller", "1961-04-03", "03.04.1961", "19610403", "3/4/1961"],
)
def test_what_identifies_a_person_is_refused_and_not_repeated(identity: str) -> None:
    with pytest.raises(UnusableFileError, match="looks like a name or a date of birth") as caught:
        parse_slide_record(json.dumps({"patient_key": identity}).encode(), "S1")
    assert identity not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["P1", "p-5f0c1b", "patient-1", "0f8a77c2", "12345678", "A-77813", "K7Q-PX", "18000101"]
)
def test_a_pseudonym_is_accepted(key: str) -> None:
    assert parse_slide_record(json.dumps({"patient_key": key}).encode(), "S1").patient_key == key


ORDER = {"order_id": "A-1", "analyser": "DM-1", "patient_key": "P1", "acquired_at": "2026-11-21T22:00:00+00:00"}


@pytest.mark.parametrize(
    ("later", "nights", "is_same"),
    [
        (ORDER, 30, True),
        (ORDER | {"order_id": "A-2"}, 1, False),
        (ORDER | {"analyser": "DM-2"}, 1, False),
        (ORDER | {"acquired_at": "2026-11-22T22:00:00+00:00"}, 1, False),
        ({"patient_key": "P1"}, 1, True),
        ({"patient_key": "P1"}, 30, False),
        (None, 1, True),
        (None, 30, False),
    ],
)
def test_a_barcode_that_is_used_again_is_never_added_up_with_the_first_slide(
    settings: Settings,
    night: NightFolder,
    ledger: Ledger,
    database: Database,
    later: dict[str, object] | None,
    nights: int,
    is_same: bool,
) -> None:
    night.record("S1", **ORDER)
    night.cell("S1", 1)
    night.complete()
    ingest_night(night.path, settings)
    again = NightFolder(settings.drops, night_date(night) + timedelta(days=nights))
    if later is not None:
        again.record("S1", **later)
    again.cell("S1", 2)
    again.complete()

    ingest_night(again.path, settings)

    expected = ("cell", None) if is_same else ("quarantined", "slide_identity")
    assert ledger()["S1/SNE_00000002.png"] == expected
    with database.connect() as connection:
        slide = connection.execute(sa.text("SELECT order_id, analyser FROM bloodcell.slide")).one()
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.cell")) == 1 + is_same
    assert tuple(slide) == ("A-1", "DM-1")


def night_date(night: NightFolder) -> date:
    return date.fromisoformat(night.path.name)


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


def test_a_known_slide_of_another_patient_is_set_aside_without_naming_the_patients(
    settings: Settings, night: NightFolder, ledger: Ledger, database: Database
) -> None:
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
    with database.connect() as connection:
        details = connection.scalars(
            sa.text("SELECT detail FROM bloodcell.file_account WHERE detail IS NOT NULL")
        ).all()
    assert details
    assert not [detail for detail in details if "P1" in detail or "P2" in detail]
