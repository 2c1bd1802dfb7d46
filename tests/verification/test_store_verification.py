"""Damage in a real folder, a real S3 bucket and a memory file system is found, named and healed; nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, StoreUnavailableError
from bloodcell.ingest import ingest_night
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from bloodcell.verification import last_verification, store_verification, verify_store
from bloodcell.verification.expected_objects import Expected, expected_images
from tests.conftest import Command
from tests.ingest.night import NIGHT, NightFolder
from tests.storage.test_store import SHA256, killed_in_mid_write
from tests.verification.damaged_store import N_OBJECTS, DamagedStore, filled

CELL = "SNE_00000000.png"
TWO_DAYS_S = 2 * 86_400


@pytest.fixture
def folder(settings: Settings, database: Database) -> DamagedStore:
    return filled(settings, database)


@pytest.fixture(params=["folder", "s3", "memory"])
def laboratory(request: pytest.FixtureRequest, settings: Settings, database: Database, tmp_path: Path) -> DamagedStore:
    """A laboratory whose store is a folder, a bucket, or in memory."""
    url = {"folder": None, "s3": f"s3://laboratory/{tmp_path.name}", "memory": f"memory://{tmp_path.name}"}
    if request.param == "s3":
        request.getfixturevalue("s3")
    return filled(settings.model_copy(update={"store_url": url[request.param]}), database)


def make_old(path: Path) -> None:
    for each in [*path.rglob("*"), path]:
        os.utime(each, (time.time() - TWO_DAYS_S,) * 2)


def test_a_whole_store_has_no_damage_and_the_result_is_recorded(laboratory: DamagedStore) -> None:
    before = laboratory.objects()
    found = laboratory.verified()
    assert (found.n_objects, found.n_damaged, found.n_orphans, found.n_stale_parts) == (N_OBJECTS, 0, 0, 0)
    assert found.n_bytes == sum(map(len, before.values()))
    assert laboratory.objects() == before
    with laboratory.database.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM bloodcell.store_verification")).one()
    assert (row.run_id, row.state, row.is_repair, row.n_objects, row.n_left) == (
        found.run_id, "succeeded", False, N_OBJECTS, 0,
    )  # fmt: skip


def test_damaged_images_are_named_with_their_cells_and_healed_from_the_drops(laboratory: DamagedStore) -> None:
    good = laboratory.objects()
    wanted = {}
    for number, problem in enumerate(("altered", "truncated", "missing")):
        name = f"SNE_{number:08d}.png"
        place = laboratory.image(name)
        laboratory.damage(place, problem)
        wanted[place] = (problem, [(str(NIGHT), f"S{number % 2}", name)])
    bad = laboratory.objects()

    found = laboratory.verified().damaged
    named = {each.place: (each.problem, [(at.night, at.slide, at.file_name) for at in each.used_by]) for each in found}
    assert named == wanted
    assert laboratory.objects() == bad

    healed = laboratory.verified(repair=True)
    assert (healed.n_damaged, healed.n_healed, healed.n_left) == (3, 3, 0)
    assert {each.healed_from for each in healed.damaged} == {str(laboratory.settings.drops)}
    assert laboratory.objects() == good


def test_what_cannot_be_healed_stays_and_the_rest_is_healed(folder: DamagedStore) -> None:
    place, other = folder.image(CELL), folder.image("SNE_00000001.png")
    folder.damage(place, "truncated")
    folder.damage(other, "altered")
    bad = folder.objects()[place]
    original = folder.settings.drops / str(NIGHT) / "S0" / CELL
    original.write_bytes(original.read_bytes()[:-200])  # its pixels are not whole any more

    found = folder.verified(repair=True)
    assert (found.n_damaged, found.n_healed) == (2, 1)
    (left,) = [damage for damage in found.damaged if not damage.healed_from]
    assert (left.place, left.not_healed) == (place, "no good copy was found")
    assert folder.objects()[place] == bad

    original.unlink()
    os.mkfifo(original)  # must not block
    assert folder.verified(repair=True).n_left == 1


@pytest.mark.parametrize("source", ["store", "bucket", "nights"])
def test_another_store_and_an_archive_of_nights_heal_too(
    folder: DamagedStore, tmp_path: Path, source: str, request: pytest.FixtureRequest
) -> None:
    good = folder.objects()
    shutil.copytree(folder.settings.store, tmp_path / "store")
    shutil.move(folder.settings.drops, tmp_path / "nights")
    other = str(tmp_path / source)
    if source == "bucket":
        other = f"s3://laboratory/{tmp_path.name}"
        request.getfixturevalue("s3").put(f"{tmp_path / 'store'}/", f"{other}/", recursive=True)
    places = [place for place in good if source != "nights" or place.startswith("images/")]
    for number, place in enumerate(places):
        folder.damage(place, ("missing", "altered")[number % 2])

    found = folder.verified(repair=True, others=(other,))
    assert (found.n_damaged, found.n_left) == (len(places), 0)
    assert folder.objects() == good


def test_a_damaged_copy_elsewhere_is_not_used(folder: DamagedStore, tmp_path: Path) -> None:
    shutil.copytree(folder.settings.store, tmp_path / "store")
    place = folder.image(CELL)
    folder.damage(place, "missing")
    shutil.rmtree(folder.settings.drops)
    copy = tmp_path / "store" / place
    copy.write_bytes(copy.read_bytes() + b"more")
    assert folder.verified(repair=True, others=(str(tmp_path / "store"),)).n_left == 1
    assert place not in folder.objects()


def test_a_manifest_is_healed_from_the_database(folder: DamagedStore) -> None:
    good = folder.objects()
    (manifest,) = [place for place in good if place.endswith("bundle.json")]
    folder.damage(manifest, "altered")
    found = folder.verified(repair=True)
    assert (found.damaged[0].healed_from, found.damaged[0].belongs_to[-7:]) == ("the database", "(vgg16)")
    assert folder.objects() == good


def test_what_cannot_be_read_or_replaced_is_named_and_the_others_go_on(folder: DamagedStore) -> None:
    place = folder.image(CELL)
    path = Path(folder.path(place))
    path.unlink()
    path.mkdir()  # reading fails, and no file can take its name
    found = folder.verified(repair=True)
    assert (found.n_objects, found.damaged[0].problem, found.n_left) == (N_OBJECTS, "unreadable", 1)
    assert "cannot be written" in found.damaged[0].not_healed


def test_a_store_that_is_not_there_is_unavailable_and_nothing_is_written_below(folder: DamagedStore) -> None:
    root = Path(folder.settings.store)
    root.rename(root.with_name("elsewhere"))
    root.mkdir()  # the empty mount point of a share
    with pytest.raises(StoreUnavailableError, match="neither images nor models"):
        folder.verified(repair=True)
    assert list(root.iterdir()) == []


def test_an_orphan_is_listed_once_it_is_old_and_stays(folder: DamagedStore) -> None:
    folder.store.put_image(SHA256, b"a running ingest stored it, and its row comes later")
    assert folder.verified(repair=True).n_orphans == 0
    images = Path(folder.settings.store) / "images"
    make_old(images / SHA256[:2])
    (images / "notes.txt").write_text("of somebody")
    make_old(images / "notes.txt")
    found = folder.verified(repair=True)
    assert sorted(found.orphans) == [f"images/{SHA256[:2]}/{SHA256}", "images/notes.txt"]
    assert {*found.orphans} <= folder.objects().keys()


def test_unfinished_files_of_killed_writers_are_removed_when_they_are_old(folder: DamagedStore) -> None:
    store = Path(folder.settings.store)
    killed_in_mid_write(str(store), SHA256)
    killed_in_mid_write(str(store), "c0ffee" + 58 * "0", str(folder.settings.data_dir / "source"))
    elsewhere = folder.settings.data_dir / "training" / ".head.keras.0123456789abcdef-17-140.part"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"half")
    foreign = elsewhere.with_name("download.part")
    foreign.write_bytes(b"of another program")
    parts = [*store.rglob(".*.part"), elsewhere]
    assert len(parts) == 3
    assert folder.verified(repair=True).n_stale_parts == 0

    for part in [*parts, foreign]:
        make_old(part)
    assert (folder.verified().n_stale_parts, folder.verified().n_parts_removed) == (3, 0)
    found = folder.verified(repair=True)
    assert (found.n_stale_parts, found.n_parts_removed) == (3, 3)
    assert not any(part.exists() for part in parts)
    assert foreign.exists()


def test_an_ingest_at_the_same_time_shows_neither_damage_nor_orphans(folder: DamagedStore) -> None:
    night = NightFolder(folder.settings.drops, NIGHT.replace(day=22))
    for number in range(300):
        night.cell("S7", 1000 + number)
    ingest = threading.Thread(target=ingest_night, args=(night.path, folder.settings))
    ingest.start()
    rounds = [folder.verified(repair=True)]
    while ingest.is_alive():
        rounds.append(folder.verified(repair=True))
    ingest.join()
    assert {(found.n_damaged, found.n_orphans, found.n_stale_parts) for found in rounds} == {(0, 0, 0)}
    assert folder.verified().n_objects == N_OBJECTS + 300


def test_an_image_that_was_removed_because_of_its_age_is_not_damage_and_does_not_come_back(
    folder: DamagedStore,
) -> None:
    place = folder.image(CELL)
    folder.damage(place, "missing")
    with folder.database.begin() as connection:
        removed = sa.text("UPDATE bloodcell.image SET removed_at = now() WHERE sha256 = :sha256")
        connection.execute(removed, {"sha256": place.rpartition("/")[2]})
    found = folder.verified(repair=True)
    assert (found.n_objects, found.n_damaged) == (N_OBJECTS - 1, 0)
    assert place not in folder.objects()


def test_an_image_that_is_removed_while_the_store_is_verified_does_not_come_back(
    folder: DamagedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder.image(CELL)

    def listed_then_removed(connection: sa.Connection, prefix: str) -> list[Expected]:
        found = expected_images(connection, prefix)
        connection.execute(sa.text("UPDATE bloodcell.image SET removed_at = now()"))
        return found

    folder.damage(place, "missing")
    monkeypatch.setattr(store_verification, "expected_images", listed_then_removed)
    assert folder.verified(repair=True).n_damaged == 0
    assert place not in folder.objects()


def test_a_source_that_is_neither_a_folder_nor_a_store_is_refused(folder: DamagedStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a folder of nights or another store"):
        folder.verified(repair=True, others=(str(tmp_path / "nothing"),))


def test_the_last_result_is_the_newest_one_that_ended(folder: DamagedStore) -> None:
    def last() -> tuple[object, ...]:
        record = folder.database.transact(last_verification)
        return record.n_objects, record.n_damaged, record.n_left, record.ended_at is None

    assert last() == (0, 0, 0, True)
    folder.damage(folder.image(CELL), "missing")
    folder.verified()
    assert last() == (N_OBJECTS, 1, 1, False)
    folder.verified(repair=True)
    assert last() == (N_OBJECTS, 1, 0, False)
    shutil.rmtree(folder.settings.store)
    with pytest.raises(StoreUnavailableError):
        folder.verified()
    assert last() == (N_OBJECTS, 1, 0, False)


def test_an_empty_installation_has_nothing_to_verify(settings: Settings) -> None:
    assert verify_store(settings, repair=True).n_objects == 0
    assert not Path(Store.of(settings)._root).exists()


def test_the_command_reports_damage_by_its_exit_status(folder: DamagedStore, main_here: Command) -> None:
    environment = {
        "BLOODCELL_DATA_DIR": str(folder.settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(folder.settings.plain_database_url),
    }
    assert main_here("store", "verify", **environment).returncode == 0
    place = folder.image(CELL)
    folder.damage(place, "altered")
    shown = main_here("store", "verify", **environment)
    assert shown.returncode == 1
    assert f"altered    {place}  night {NIGHT}, slide S0, cell {CELL}" in shown.stdout
    assert "Next: bloodcell store verify --repair" in shown.stdout
    as_json = json.loads(main_here("store", "verify", "--json", **environment).stdout)
    assert (as_json["n_damaged"], as_json["damaged"][0]["used_by"][0]["slide"]) == (1, "S0")
    assert main_here("store", "verify", "--repair", **environment).returncode == 0
    assert main_here("store", "verify", "--from", "/", **environment).returncode == 2
