"""One bad entry of a night costs itself and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from bloodcell.errors import ConfigurationError
from bloodcell.inbox.listing import MAX_DEPTH
from bloodcell.inbox.night_folders import completed_state
from bloodcell.ingest import IngestSummary, ingest_night, ingesting
from bloodcell.service.due_nights import ingest_due_nights
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.ingest.night import NightFolder
from tests.storage.conftest import as_superuser

Ingested = Callable[[], IngestSummary]
Ledger = Callable[[], dict[str, tuple[str, str | None]]]
OTHERS = {"S1/SNE_00000001.png": ("cell", None), "S3/SNE_00000003.png": ("cell", None)}


@pytest.fixture
def three_slides(night: NightFolder) -> NightFolder:
    for number in (1, 2, 3):
        night.record(f"S{number}", patient_key=f"patient-{number}")
        night.cell(f"S{number}", number)
    night.complete()
    return night


def test_a_slide_that_postgres_refuses_is_set_aside_and_named(
    three_slides: NightFolder,
    settings: Settings,
    ledger: Ledger,
    database: Database,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text("ALTER TABLE bloodcell.slide ADD CONSTRAINT no_s2 CHECK (barcode <> 'S2')"))

    due = ingest_due_nights(settings)

    (night,) = due.nights
    assert due.failed == {
        night.isoformat(): "slides that could not be ingested: S2 (IntegrityError); the log has the tracebacks"
    }
    assert "violates check constraint" in caplog.text
    assert "patient-2" not in caplog.text
    assert OTHERS.items() <= ledger().items()
    assert ledger()["S2/SNE_00000002.png"] == ("quarantined", "unexpected_error")
    with database.connect() as connection:
        run = connection.execute(sa.text("SELECT state, detail, error FROM bloodcell.run")).one()
        assert connection.scalar(sa.text("SELECT completed_at IS NOT NULL FROM bloodcell.drop"))
    assert (run.state, run.detail["failed"]) == ("succeeded", {"S2": "IntegrityError"})

    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text("ALTER TABLE bloodcell.slide DROP CONSTRAINT no_s2"))
    assert ingest_due_nights(settings, night=night).failed == {}
    assert ledger()["S2/SNE_00000002.png"] == ("cell", None)


def test_files_that_are_not_even_in_the_ledger_leave_the_night_open(
    three_slides: NightFolder, settings: Settings, ledger: Ledger, database: Database, database_url: str
) -> None:
    with as_superuser(database_url).connect() as connection:
        connection.execute(
            sa.text("ALTER TABLE bloodcell.drop_file ADD CONSTRAINT no_s2 CHECK (barcode IS DISTINCT FROM 'S2')")
        )

    due = ingest_due_nights(settings)

    assert "S2 (IntegrityError)" in next(iter(due.failed.values()))
    assert OTHERS.items() <= ledger().items()
    assert not [path for path in ledger() if path.startswith("S2/")]
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT completed_at IS NULL FROM bloodcell.drop"))


def test_a_login_that_is_revoked_during_the_night_stops_it_and_is_no_slides_failure(
    three_slides: NightFolder, settings: Settings, database: Database, database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def revoke(_: int) -> None:
        administrator.execute(sa.text("ALTER ROLE night_service NOLOGIN"))
        administrator.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'night_service'")
        )

    monkeypatch.setattr(ingesting, "_BATCH_FILES", 1)
    url = sa.make_url(database_url).set(username="night_service").render_as_string(hide_password=False)
    with as_superuser(database_url).connect() as administrator:
        administrator.execute(sa.text("CREATE ROLE night_service LOGIN IN ROLE bloodcell_app"))
        try:
            with pytest.raises(ConfigurationError, match="refuses the login"):
                ingest_night(
                    three_slides.path, settings.model_copy(update={"database_url": SecretStr(url)}), on_files=revoke
                )
        finally:
            administrator.execute(sa.text("DROP OWNED BY night_service"))
            administrator.execute(sa.text("DROP ROLE night_service"))
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.drop_file WHERE outcome = 'quarantined'")) == 0
        assert connection.scalar(sa.text("SELECT completed_at IS NULL FROM bloodcell.drop"))
    assert ingest_night(three_slides.path, settings).n_cells == 3


def test_a_night_that_fails_in_a_way_nobody_foresaw_does_not_hold_up_the_next(
    three_slides: NightFolder, settings: Settings, ledger: Ledger, database_url: str
) -> None:
    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text("ALTER TABLE bloodcell.drop ADD CONSTRAINT late CHECK (night >= '2026-11-21')"))
    earlier = NightFolder(settings.drops, date(2026, 11, 20))
    earlier.cell("S9", 9)
    earlier.complete()

    due = ingest_due_nights(settings)

    assert due.failed == {"2026-11-20": "an unexpected IntegrityError; the log has the traceback"}
    assert OTHERS.items() <= ledger().items()


def test_a_very_deep_folder_is_one_entry_of_the_ledger(
    three_slides: NightFolder, ingested: Ingested, ledger: Ledger
) -> None:
    top = three_slides.path / "deep"
    top.mkdir()
    _nest(top, 1_000)
    three_slides.complete()
    try:
        assert completed_state(three_slides.path, 600) is not None  # what the watcher asks
        assert ingested().n_cells == 3
        assert OTHERS.items() <= ledger().items()
        deep = {path: outcome for path, outcome in ledger().items() if path.startswith("deep/")}
        assert deep == {"/".join(["deep", *["d"] * (MAX_DEPTH)]): ("quarantined", "too_deep")}
    finally:
        subprocess.run(["rm", "-rf", top], check=True)  # shutil.rmtree is recursive


def _nest(folder: Path, levels: int) -> None:
    """Makes folders in each other, whose whole path is longer than any path may be."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
