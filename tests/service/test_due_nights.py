"""A run finds the nights to work on: new folders, and nights that an earlier run left unfinished."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest
from PIL import Image

from bloodcell.errors import ConfigurationError, DatabaseUnavailableError
from bloodcell.results import write_due_results
from bloodcell.service.due_nights import DueNights, ingest_due_nights, ingested_by
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, CHAMPION, NIGHT, Laboratory

FRIDAY, SATURDAY = date(2026, 3, 13), date(2026, 3, 14)


def write_night(settings: Settings, night: date, barcode: str) -> Path:
    folder = settings.drops / night.isoformat()
    (folder / barcode).mkdir(parents=True)
    shade = int(barcode.removeprefix("S"))
    Image.new("RGB", (40, 40), (shade, 80, 160)).save(folder / barcode / "LY_1.png")
    (folder / ".complete").touch()
    return folder


def classified(database: Database, barcode: str) -> Laboratory:
    """A slide with one cell, which the champion has called, and without a differential yet."""
    laboratory = Laboratory(database)
    laboratory.model()
    laboratory.call(laboratory.cells(laboratory.slide(barcode), ["LY"]), ["lymphocyte"])
    return laboratory


def test_new_folders_are_ingested_and_due(settings: Settings) -> None:
    write_night(settings, FRIDAY, "S1")
    write_night(settings, SATURDAY, "S2")

    assert ingest_due_nights(settings) == DueNights((FRIDAY, SATURDAY), {}, {})


def test_nothing_is_due_without_a_night(settings: Settings) -> None:
    settings.drops.mkdir(parents=True)
    assert ingest_due_nights(settings) == DueNights((), {}, {})


def test_a_missing_drops_folder_fails_but_does_not_delay_unreported_nights(
    settings: Settings, database: Database
) -> None:
    classified(database, "S9")

    due = ingest_due_nights(settings)

    assert due.nights == (NIGHT,)
    assert "No such file or directory. Mount the share" in due.failed["drops"]
    assert not settings.drops.exists()


def test_what_is_no_night_is_named_in_every_run(settings: Settings) -> None:
    write_night(settings, FRIDAY, "S1")
    (settings.drops / "20260314").mkdir()

    for due in (ingest_due_nights(settings), ingest_due_nights(settings, night=FRIDAY)):
        assert due.failed == {}
        assert list(due.problems) == ["20260314"]


def test_an_ingested_night_stays_due_until_its_slides_are_reported(settings: Settings, database: Database) -> None:
    classified(database, "S9")
    assert ingest_due_nights(settings).nights == (NIGHT,)

    write_due_results(settings, night=NIGHT)

    assert ingest_due_nights(settings).nights == ()


def test_a_late_cell_makes_its_night_due_again(settings: Settings, database: Database) -> None:
    laboratory = classified(database, "S9")
    write_due_results(settings, night=NIGHT)
    slide_id = laboratory.rows("SELECT slide_id FROM bloodcell.slide")[0][0]
    assert isinstance(slide_id, int)

    laboratory.cells(slide_id, ["MO"])

    assert ingest_due_nights(settings).nights == (NIGHT,)


def test_a_signed_slide_whose_late_cells_are_counted_is_done(settings: Settings, database: Database) -> None:
    laboratory = classified(database, "S9")
    write_due_results(settings, night=NIGHT)
    version = laboratory.sign("S9", 1)
    late = laboratory.cells(1, ["MO"])
    laboratory.call(late, ["monocyte"])
    assert ingest_due_nights(settings).nights == (NIGHT,)

    write_due_results(settings, night=NIGHT)

    assert laboratory.rows("SELECT version, newest_version FROM bloodcell.slide_status") == [(version, version + 1)]
    assert ingest_due_nights(settings).nights == ()


def test_a_new_model_does_not_make_old_nights_due(settings: Settings, database: Database) -> None:
    laboratory = classified(database, "S9")
    write_due_results(settings, night=NIGHT)

    laboratory.model(CHALLENGER, "vgg16", promote=True)

    assert ingest_due_nights(settings).nights == ()
    assert CHAMPION != CHALLENGER


def test_a_named_night_is_ingested_alone(settings: Settings) -> None:
    write_night(settings, FRIDAY, "S1")
    write_night(settings, SATURDAY, "S2")

    assert ingest_due_nights(settings, night=SATURDAY).nights == (SATURDAY,)
    assert ingest_due_nights(settings).nights == (FRIDAY, SATURDAY)


def test_the_nights_of_named_slides_are_due_and_nothing_is_ingested(settings: Settings, database: Database) -> None:
    classified(database, "S9")
    write_night(settings, FRIDAY, "S1")

    assert ingest_due_nights(settings, slides=["S9"]).nights == (NIGHT,)
    assert ingest_due_nights(settings, slides=["S1"]).nights == ()


def test_an_unreadable_folder_does_not_delay_the_others(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable = write_night(settings, FRIDAY, "S1")
    write_night(settings, SATURDAY, "S2")
    refuse(unreadable, monkeypatch)

    due = ingest_due_nights(settings)

    assert due.nights == (SATURDAY,)
    assert "2026-03-13" in due.failed["2026-03-13"]


def test_an_unreadable_folder_does_not_delay_unreported_nights(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    classified(database, "S9")
    refuse(write_night(settings, FRIDAY, "S1"), monkeypatch)

    due = ingest_due_nights(settings)

    assert due.nights == (NIGHT,)
    assert list(due.failed) == ["2026-03-13"]


def test_a_named_unreadable_night_fails_the_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(write_night(settings, FRIDAY, "S1"), monkeypatch)

    with pytest.raises(ConfigurationError, match="2026-03-13"):
        ingest_due_nights(settings, night=FRIDAY)


def test_a_slide_called_only_by_a_challenger_stays_due(settings: Settings, database: Database) -> None:
    laboratory = Laboratory(database)
    laboratory.model()
    cells = laboratory.cells(laboratory.slide("S9"), ["LY"])
    laboratory.call(cells, ["lymphocyte"], laboratory.model(CHALLENGER, "vgg16", promote=False))
    write_due_results(settings, night=NIGHT)

    assert ingest_due_nights(settings).nights == (NIGHT,)


def test_an_unavailable_database_is_a_reason_to_retry(settings: Settings) -> None:
    away = settings.model_copy(
        update={"database_url": "postgresql+psycopg2://nobody@127.0.0.1:9/none", "database_patience_s": 0}
    )

    with pytest.raises(DatabaseUnavailableError):
        ingest_due_nights(away)


def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a folder unreadable, even for root, for whom permissions do not count."""
    real = os.scandir

    def refused(path: str | Path = ".") -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)


def test_what_a_run_ingested_and_what_failed_is_known_to_the_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_night(settings, FRIDAY, "S1")
    refuse(write_night(settings, SATURDAY, "S2"), monkeypatch)
    due = ingest_due_nights(settings, airflow_run="r1")
    assert list(due.failed) == [SATURDAY.isoformat()]

    assert ingested_by(settings, "r1") == DueNights((FRIDAY,), {SATURDAY.isoformat(): "ConfigurationError"}, {})
    assert ingested_by(settings, "r2") == DueNights((), {}, {})
