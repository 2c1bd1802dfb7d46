"""The doctor says how much of the disk each part uses, and which erasure is unfinished."""

from __future__ import annotations

import pytest

from bloodcell.service import disk_use
from bloodcell.service.disk_use import PartSize, database_sizes, folder_sizes
from bloodcell.service.doctor import examine
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from tests.laboratory import Laboratory


def test_each_part_is_measured_and_the_images_are_added_up_by_the_database(
    settings: Settings, database: Database
) -> None:
    laboratory = Laboratory(database)
    laboratory.cells(laboratory.slide("S1"), ["LY"] * 3)
    logs = settings.data_dir / "airflow" / "logs" / "run"
    logs.mkdir(parents=True)
    (logs / "attempt=1.log").write_bytes(bytes(2_500_000))
    (logs / "dangling").symlink_to("nowhere")
    sizes = {part.part: part for part in database.transact(database_sizes)}
    assert sizes["images"] == PartSize("images", 3, note="3 images")
    assert 5e6 < sizes["database"].n_bytes < 1e9
    assert str(folder_sizes(settings)[0]) == "logs 2.5 MB"


def test_however_many_files_there_are_only_some_are_looked_at(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = settings.data_dir / "training" / "features"
    features.mkdir(parents=True)
    for number in range(30):
        (features / str(number)).write_bytes(bytes(1_000))
    monkeypatch.setattr(disk_use, "_MAX_ENTRIES", 10)
    assert str(folder_sizes(settings)[1]) == "kept features and trainings at least 10.0 kB"


def test_many_images_are_estimated_from_a_sample(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = (
        "INSERT INTO bloodcell.image (sha256, size_bytes, width_px, height_px, format) SELECT lpad(n::text, 64, '0'), "
        "1000, 1, 1, 'JPEG' FROM generate_series(1, 100000) n"
    )
    with connect(str(settings.plain_database_url)).begin() as connection:
        connection.exec_driver_sql(many)
        connection.exec_driver_sql("ANALYZE bloodcell.image")
    monkeypatch.setattr(disk_use, "_COUNTED_ONE_BY_ONE", 1_000)
    images = next(part for part in database.transact(database_sizes) if part.part == "images")
    assert images.note == "about 100,000 images"
    assert images.n_bytes in (0, 100_000_000)  # a sample of a small table may be empty


def test_the_doctor_names_an_unfinished_erasure(settings: Settings) -> None:
    settings.data_dir.mkdir()
    findings = {finding.check: finding for finding in examine(settings)}
    assert findings["erasures"].status == "ok"
    assert findings["disk use"].detail.startswith("database ")
    with connect(str(settings.plain_database_url), role="bloodcell_owner").begin() as connection:
        connection.exec_driver_sql(
            "WITH one AS (INSERT INTO bloodcell.erasure (kind, reason, requested_by) VALUES ('slide', 'r', 'me') "
            "RETURNING erasure_id) INSERT INTO bloodcell.erasure_pending SELECT erasure_id, 'name', 'S1' FROM one"
        )
    unfinished = next(finding for finding in examine(settings) if finding.check == "erasures")
    assert unfinished.status == "warn"
    assert "1 erasure removed the rows, but not yet everything" in unfinished.detail
