"""Ingesting again, in two runs at once, later, after changes or after kills leaves the same rows and loses nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import StoreUnavailableError
from bloodcell.ingest import IngestSummary, ingest_night, pending_nights
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from tests.conftest import small_disk
from tests.ingest.night import NightFolder, picture
from tests.laboratory import at_once

Ingested = Callable[[], IngestSummary]
Ledger = Callable[[], dict[str, tuple[str, str | None]]]


def rows(database: Database) -> list[tuple[object, ...]]:
    """Returns all rows, without surrogate keys, times and runs."""
    with database.connect() as connection:
        found = connection.execute(
            sa.text(
                "SELECT f.night, f.path, f.barcode, f.outcome, f.reason, f.sha256, c.file_name, s.patient_key"
                " FROM bloodcell.drop_file f LEFT JOIN bloodcell.cell c USING (cell_id)"
                " LEFT JOIN bloodcell.slide s USING (slide_id) ORDER BY 1, 2"
            )
        ).all()
    return [tuple(row) for row in found]


def test_ingesting_again_reads_nothing_and_changes_nothing(
    night: NightFolder, ingested: Ingested, database: Database, settings: Settings
) -> None:
    for number in range(5):
        night.cell("S1", number)
    night.write("S1/SNE_9.png", b"")
    night.complete()
    first = ingested()
    before = rows(database)
    for image in (settings.data_dir / "store" / "images").rglob("*"):
        if image.is_file():
            image.unlink()  # would be stored again if the files were read again
    second = ingested()
    assert rows(database) == before
    assert second.n_cells == first.n_cells == 5
    assert not [path for path in (settings.data_dir / "store" / "images").rglob("*") if path.is_file()]


def test_two_runs_at_once_leave_the_rows_of_one(
    night: NightFolder, settings: Settings, database: Database, database_url: str
) -> None:
    for slide in range(4):
        for number in range(40):
            night.cell(f"S{slide}", slide * 100 + number)
        night.cell(f"S{slide}", slide * 100 + 90, seed=slide * 100)
    night.complete()
    assert not at_once(3, lambda: ingest_night(night.path, settings))
    outcomes = [row[3] for row in rows(database)]
    assert (outcomes.count("cell"), outcomes.count("duplicate")) == (160, 4)
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.cell")) == 160


def test_a_slide_still_being_written_is_left_for_later(
    night: NightFolder, settings: Settings, ledger: Ledger, database: Database
) -> None:
    patient = settings.model_copy(update={"settle_s": 3600})
    night.cell("S1", 1)
    night.complete()
    night.cell("S2", 2)  # after the marker
    summary = ingest_night(night.path, patient)
    assert summary.n_waiting_folders == 1
    assert "S2/SNE_00000002.png" not in ledger()
    assert pending_nights(patient, database) == [night.path]
    night.complete()
    (night.path / ".complete").touch()
    assert ingest_night(night.path, patient).n_cells == 2
    assert pending_nights(patient, database) == []


def test_a_night_without_a_marker_is_read_once_it_has_been_unchanged_for_the_settle_time(
    night: NightFolder, settings: Settings
) -> None:
    night.cell("S1", 1)
    assert ingest_night(night.path, settings.model_copy(update={"settle_s": 3600})).n_cells == 0
    assert ingest_night(night.path, settings).n_cells == 1


def test_a_late_slide_makes_a_completed_night_pending_again(
    night: NightFolder, settings: Settings, ingested: Ingested, database: Database
) -> None:
    night.cell("S1", 1)
    night.complete()
    ingested()
    assert pending_nights(settings, database) == []
    night.cell("S2", 2)
    assert pending_nights(settings, database) == [night.path]


def test_a_quarantined_file_that_is_completed_in_place_makes_its_night_pending(
    night: NightFolder, settings: Settings, ingested: Ingested, ledger: Ledger, database: Database
) -> None:
    file = night.write("S1/SNE_1.png", picture(1)[:-100])
    night.complete()
    ingested()
    assert ledger()["S1/SNE_1.png"] == ("quarantined", "truncated")
    assert pending_nights(settings, database) == []
    with file.open("ab") as end:
        end.write(picture(1)[-100:])
    assert pending_nights(settings, database) == [night.path]
    ingested()
    assert ledger()["S1/SNE_1.png"] == ("cell", None)
    assert pending_nights(settings, database) == []


def test_a_quarantined_file_that_is_renamed_is_recorded_as_gone(
    night: NightFolder, ingested: Ingested, ledger: Ledger
) -> None:
    wrong = night.write("S1/one.png", picture(1))
    night.write("S1/two.png", picture(2))
    night.complete()
    ingested()
    wrong.rename(wrong.with_name("SNE_1.png"))
    night.complete()
    ingested()
    assert ledger() == {
        "S1/one.png": ("ignored", "gone"),
        "S1/SNE_1.png": ("cell", None),
        "S1/two.png": ("quarantined", "name_fits_no_pattern"),
        ".complete": ("ignored", "hidden_file"),
    }


def test_a_folder_that_was_unavailable_for_a_while_is_read_again(
    night: NightFolder, settings: Settings, ingested: Ingested, ledger: Ledger
) -> None:
    night.write("S1/SNE_1.png", picture(1))
    night.complete()
    strict = settings.model_copy(update={"max_file_bytes": 10})
    ingest_night(night.path, strict)
    assert ledger()["S1/SNE_1.png"] == ("quarantined", "too_many_bytes")
    (night.path / "S1").rename(settings.drops / "away")
    ingest_night(night.path, strict)
    assert ledger()["S1/SNE_1.png"] == ("ignored", "gone")
    (settings.drops / "away").rename(night.path / "S1")
    night.complete()
    ingested()
    assert ledger()["S1/SNE_1.png"] == ("cell", None)


def test_a_file_dated_in_the_future_does_not_keep_its_slide_waiting(
    night: NightFolder, settings: Settings, database: Database
) -> None:
    file = night.cell("S1", 1)
    os.utime(file, (time.time() + 10**8,) * 2)
    night.complete()
    assert ingest_night(night.path, settings.model_copy(update={"settle_s": 3600})).n_cells == 1
    assert pending_nights(settings, database) == []


def test_other_spellings_of_a_date_and_links_are_not_nights(
    night: NightFolder, settings: Settings, database: Database
) -> None:
    (settings.drops / night.path.name.replace("-", "")).mkdir()
    (settings.drops / "2026-11-22").symlink_to(night.path)
    assert pending_nights(settings, database) == [night.path]


class Vanishing:
    """A directory entry that was renamed after it was listed."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.name, self.path = entry.name, entry.path

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise FileNotFoundError(self.path)


def test_a_file_renamed_while_its_folder_is_listed_keeps_the_slide_waiting(
    night: NightFolder, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.cell("S1", 1)
    night.cell("S2", 2)
    night.complete()
    real = os.scandir

    @contextmanager
    def listed(path: Path) -> Iterator[list[object]]:
        with real(path) as entries:
            yield [Vanishing(entry) if entry.name == "SNE_00000001.png" else entry for entry in entries]

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", listed)
        assert ingest_night(night.path, settings.model_copy(update={"settle_s": 3600})).n_waiting_folders == 1
    assert "S2/SNE_00000002.png" in ledger() and "S1/SNE_00000001.png" not in ledger()


def test_a_cell_delivered_again_in_another_night_counts_once(
    night: NightFolder, settings: Settings, ingested: Ingested, ledger: Ledger
) -> None:
    night.cell("S1", 1)
    night.complete()
    ingested()
    later = NightFolder(settings.drops, date(2026, 11, 22))
    later.cell("S1", 1)
    later.cell("S1", 2, seed=1)
    later.write("S1/LY_7.png", picture(7))
    later.complete()
    assert ingest_night(later.path, settings).n_cells == 1
    assert ledger()["S1/SNE_00000001.png"] == ("duplicate", "delivered_again")
    assert ledger()["S1/SNE_00000002.png"] == ("duplicate", "same_image")


def test_a_file_that_changed_after_ingest_keeps_its_first_image_and_is_reported(
    night: NightFolder, ingested: Ingested, ledger: Ledger, database: Database
) -> None:
    file = night.cell("S1", 1)
    night.complete()
    ingested()
    with database.connect() as connection:
        first = connection.scalar(sa.text("SELECT sha256 FROM bloodcell.cell"))
    file.write_bytes(picture(99))
    night.complete()
    ingested()
    assert ledger()["S1/SNE_00000001.png"] == ("quarantined", "changed_after_ingest")
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT sha256 FROM bloodcell.cell")) == first
    ingested()
    assert ledger()["S1/SNE_00000001.png"] == ("quarantined", "changed_after_ingest")


def test_a_full_disk_stops_the_run_and_the_next_run_completes_the_night(
    night: NightFolder, settings: Settings, database: Database, tmp_path: Path
) -> None:
    for number in range(30):
        night.write(f"S1/SNE_{number}.bmp", picture(number, size=(200, 200), form="BMP"))
    night.complete()
    with small_disk(tmp_path / "disk", "1m") as disk:
        full = settings.model_copy(update={"store_url": str(disk)})
        with pytest.raises(StoreUnavailableError, match="No space left"):
            ingest_night(night.path, full)
        assert not list(disk.rglob("*.part"))
        with database.connect() as connection:
            stored = set(connection.scalars(sa.text("SELECT sha256 FROM bloodcell.image")))
            state = connection.execute(sa.text("SELECT state, error FROM bloodcell.run")).one()
        assert stored <= {path.name for path in disk.rglob("*") if path.is_file()}
        assert state.state == "failed" and os.strerror(errno.ENOSPC) in state.error
    assert ingest_night(night.path, settings).n_cells == 30


def test_an_image_cut_off_by_a_full_disk_is_not_in_the_store(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        store = Store(str(disk), tmp_path / "cache")
        with closing(store), pytest.raises(StoreUnavailableError, match="No space left"):
            store.put_image("ab" * 32, bytes(100_000))
        assert not [path for path in disk.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_lost_connection_is_replaced(
    night: NightFolder, settings: Settings, database: Database, database_url: str
) -> None:
    for slide in range(3):
        for number in range(300):
            night.write(f"S{slide}/LY_{number}.png", picture(0))
    night.complete()
    cut = []

    def cut_all(n_files: int) -> None:
        with connect(database_url).connect() as connection:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            cut.append(connection.scalar(sa.text(f"SELECT count(pg_terminate_backend(pid)) {others}")))

    summary = ingest_night(night.path, settings, on_files=cut_all)
    assert sum(cut) >= 3
    assert (summary.n_cells, summary.n_duplicates) == (3, 897)
    assert len(rows(database)) == 901


@pytest.mark.slow
def test_after_a_kill_at_any_moment_the_next_run_leaves_the_rows_of_an_undisturbed_one(
    night: NightFolder, settings: Settings, database: Database, template: str, postgres: object
) -> None:
    for slide in range(12):
        night.record(f"S{slide}", patient_key=f"P{slide}")
        for number in range(100):
            night.cell(f"S{slide}", slide * 100 + number)
    night.write("S0/SNE_999.png", b"")
    night.complete()
    environment = {
        **os.environ,
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
        "BLOODCELL_SETTLE_S": "0",
    }
    n_files = 12 * 101 + 2
    with (
        connect(str(settings.plain_database_url)).connect().execution_options(isolation_level="AUTOCOMMIT") as watching
    ):
        for n_rows in (0, 1, 400, 700):  # rows are written about 256 at a time
            child = subprocess.Popen(
                [sys.executable, "-m", "bloodcell", "ingest", str(night.path)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            running = "SELECT count(*) FROM bloodcell.run WHERE state = 'running'"
            n_runs = watching.scalar(sa.text(running))
            while watching.scalar(sa.text(running)) == n_runs or _n_rows(watching) < n_rows:
                assert child.poll() is None, "it ended before it could be killed"
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert n_rows <= _n_rows(watching) < n_files
    summary = ingest_night(night.path, settings)
    assert (summary.n_cells, summary.n_quarantined, summary.n_slides) == (1200, 1, 12)
    store = Store.of(settings)
    with connect(str(settings.plain_database_url)).connect() as connection:
        for digest in connection.scalars(sa.text("SELECT sha256 FROM bloodcell.cell")):
            store.read_image(digest)
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.image")) == 1200
    assert len(rows(database)) == n_files


def _n_rows(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.text("SELECT count(*) FROM bloodcell.drop_file")) or 0)


@pytest.mark.parametrize("seed", [0, 5])
def test_a_hostile_drop_of_real_images_has_the_expected_outcomes(
    seed: int, shared: Path, settings: Settings, tmp_path: Path, ledger: Ledger, database: Database
) -> None:
    import csv

    out = tmp_path / "drops"
    tool = [
        sys.executable,
        str(shared / "tools" / "make_drop.py"),
        str(out),
        "--slides",
        "3",
        "--cells",
        "60",
        "--faults",
        "--seed",
        str(seed),
    ]
    subprocess.run(tool, check=True, capture_output=True)
    summary = ingest_night(out / "2026-11-21", settings)
    found = ledger()
    wrong = []
    with (out / "2026-11-21.truth.csv").open(newline="") as file:
        truth = list(csv.DictReader(file))
    for row in truth:
        outcome, reason = found[row["path"].removeprefix("2026-11-21/")]
        if not _as_expected(row["expect"], outcome, reason):
            wrong.append((row["path"], row["expect"], outcome, reason))
    assert not wrong
    night = out / "2026-11-21"
    on_disk = {
        os.fsencode((Path(folder) / name).relative_to(night)).decode("utf-8", "backslashreplace")
        for folder, folders, files in os.walk(night)
        for name in [*files, *(each for each in folders if (Path(folder) / each).is_symlink())]
    }
    assert set(found) == on_disk
    assert summary.n_files == len(on_disk)
    with database.connect() as connection:  # cells in both slides, and reported to people
        shared_images = connection.execute(sa.text("SELECT barcode FROM bloodcell.shared_image")).scalars().all()
    expected = sum(row["expect"].startswith("duplicate, of a slide") for row in truth)
    assert shared_images.count("S_BADJSON") == expected > 0


# entry of the truth file -> outcomes that agree with it; an image in two slides is a cell in each, and is reported
_REASONS = {
    "empty": "empty",
    "truncated": "truncated",
    "not an image": "not_an_image",
    "too many pixels": "too_many_pixels",
    "too many bytes": "too_many_bytes",
    "link out of the drop": "link",
}


def _as_expected(expect: str, outcome: str, reason: str | None) -> bool:
    kind, _, detail = expect.partition(":")
    if kind == "quarantine":
        return (outcome, reason) == ("quarantined", _REASONS[detail])
    return {
        "cell": outcome == "cell",
        "duplicate": outcome == "duplicate",
        "not_a_cell": outcome == "ignored",
        "quarantine or cell": outcome in {"quarantined", "cell"},
        "quarantine or duplicate": outcome in {"quarantined", "duplicate"},
        "duplicate, of a slide with no readable slide.json": outcome == "cell",
    }[kind]
