"""What is older than its setting is removed once, and nothing that is still needed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.classify import plan_shards
from bloodcell.errors import StoreUnavailableError
from bloodcell.ingest import ingest_night
from bloodcell.removal.retention import Removal, remove_old
from bloodcell.report.slide_page import write_report
from bloodcell.storage.connections import connect
from bloodcell.storage.store import Store
from bloodcell.withdrawal import WithdrawalRequest, withdraw_slide
from tests.ingest.night import NightFolder
from tests.laboratory import CHALLENGER
from tests.removal.conftest import BARCODES, SHARED_SEED, Ward, digest, unmounted

OLD = time.time() - 400 * 86_400


def age(ward: Ward) -> None:
    """Makes the night, its images and its snapshot 400 days old."""
    with connect(str(ward.settings.plain_database_url)).begin() as connection:
        connection.exec_driver_sql("SET session_replication_role = replica")  # dates only, for a test
        connection.exec_driver_sql("SELECT bloodcell.ensure_call_partition('2025-10-17')")
        connection.exec_driver_sql("UPDATE bloodcell.image SET stored_at = stored_at - interval '400 days'")
        connection.exec_driver_sql("UPDATE bloodcell.dataset SET created_at = created_at - interval '400 days'")
        connection.exec_driver_sql("UPDATE bloodcell.drop SET night = night - 400")
        for table in ("slide", "cell", "drop_file", "cell_call"):
            connection.exec_driver_sql(f"UPDATE bloodcell.{table} SET night = night - 400")


def unlabel(ward: Ward, barcode: str) -> None:
    with connect(str(ward.settings.plain_database_url)).begin() as connection:
        connection.exec_driver_sql("SET session_replication_role = replica")
        cells = (
            f"(SELECT cell_id FROM bloodcell.cell JOIN bloodcell.slide USING (slide_id) WHERE barcode = '{barcode}')"
        )
        for table in ("dataset_image", "checked_cell", "label"):
            connection.exec_driver_sql(f"DELETE FROM bloodcell.{table} WHERE cell_id IN {cells}")


def removed(ward: Ward, *, dry_run: bool = False, **ages: int) -> dict[str, Removal]:
    settings = ward.settings.model_copy(update={f"keep_{part}_days": days for part, days in ages.items()})
    return {each.part: each for each in remove_old(settings, ward.database, dry_run=dry_run)}


def test_nothing_is_removed_by_default(ward: Ward) -> None:
    age(ward)
    before, stored = ward.everything(), ward.stored()
    assert all(each == Removal(each.part, None) for each in removed(ward).values())
    assert (ward.everything(), ward.stored()) == (before, stored)


def test_old_images_go_unless_a_cell_has_a_label_or_waits_for_its_call(ward: Ward, tmp_path: Path) -> None:
    age(ward)
    assert removed(ward, images=30)["images"].n == 0  # all have labels
    unlabel(ward, BARCODES[0])
    unlabel(ward, BARCODES[1])
    with connect(str(ward.settings.plain_database_url)).begin() as connection:
        connection.exec_driver_sql("SET LOCAL bloodcell.replacing = 'on'")
        waiting = (
            "DELETE FROM bloodcell.cell_call k USING bloodcell.cell c WHERE k.cell_id = c.cell_id AND c.sha256 = :s"
        )
        connection.execute(sa.text(waiting), {"s": digest(202)})
    assert removed(ward, images=500)["images"].n == 0
    assert removed(ward, images=30, dry_run=True)["images"].n == 5
    assert len(ward.stored()) == 8
    done = removed(ward, images=30)["images"]
    assert (done.n, done.n_bytes > 0) == (5, True)
    # the image that a labelled cell of the other slide has, and the cell without a call, keep theirs
    assert ward.stored() == {digest(seed) for seed in (SHARED_SEED, 202, 300)}
    assert removed(ward, images=30)["images"].n == 0
    assert ward.rows("SELECT count(*) FROM bloodcell.image WHERE removed_at IS NOT NULL") == [(5,)]
    assert ward.rows("SELECT count(*) FROM bloodcell.cell_result") == [(8,)]
    # a new model calls only the cells that still have an image, and a page is written without the others
    ward.laboratory.model(CHALLENGER, "vgg16_svm", promote=False)
    (shard,) = plan_shards(ward.settings, model_ids=[CHALLENGER])
    assert shard.n_cells == 4
    page = tmp_path / "page.html"
    write_report(ward.database, Store.of(ward.settings), BARCODES[1], page)
    assert "<html" in page.read_text()


def test_an_image_of_a_withdrawn_slide_waits_for_no_call(ward: Ward) -> None:
    age(ward)
    unlabel(ward, BARCODES[0])
    with connect(str(ward.settings.plain_database_url)).begin() as connection:
        connection.exec_driver_sql("SET LOCAL bloodcell.replacing = 'on'")
        connection.exec_driver_sql("DELETE FROM bloodcell.cell_call")
    assert removed(ward, images=30)["images"].n == 0
    withdraw_slide(ward.settings, WithdrawalRequest(BARCODES[0], "wrong rack", "anna"))
    assert removed(ward, images=30)["images"].n == 3  # the other slide keeps the image that both have


def test_an_image_that_is_delivered_again_is_kept_again(ward: Ward) -> None:
    age(ward)
    unlabel(ward, BARCODES[1])
    removed(ward, images=30)
    assert digest(200) not in ward.stored()
    again = NightFolder(ward.settings.drops, date(2026, 11, 23))
    again.cell("S26-000050", 1, seed=200)
    again.complete()
    ingest_night(again.path, ward.settings)
    assert digest(200) in ward.stored()
    assert ward.rows(f"SELECT removed_at FROM bloodcell.image WHERE sha256 = '{digest(200)}'") == [(None,)]


def test_a_kill_between_bytes_and_mark_is_made_good_by_the_next_time(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(ward)
    unlabel(ward, BARCODES[1])
    remove = Store.remove_images

    def killed(self: Store, sha256s: Sequence[str]) -> list[str]:
        remove(self, sha256s)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(Store, "remove_images", killed)
        removed(ward, images=30)
    assert ward.rows("SELECT count(*) FROM bloodcell.image WHERE removed_at IS NOT NULL") == [(0,)]
    assert removed(ward, images=30)["images"].n == 3


def test_nothing_is_marked_as_removed_while_the_store_is_not_mounted(ward: Ward) -> None:
    age(ward)
    unlabel(ward, BARCODES[1])
    before = ward.stored()
    with unmounted(ward.settings), pytest.raises(StoreUnavailableError, match="holds neither images nor models"):
        removed(ward, images=30)
    assert ward.rows("SELECT count(*) FROM bloodcell.image WHERE removed_at IS NOT NULL") == [(0,)]
    assert ward.stored() == before


def test_old_logs_and_features_go_and_young_ones_stay(ward: Ward) -> None:
    logs = ward.settings.data_dir / "airflow" / "logs"
    young = logs / "dag_id=retrain" / "attempt=1.log"
    young.parent.mkdir()
    young.write_text("young")
    old = next(logs.rglob("dag_id=nightly_run/attempt=1.log"))
    shelf = next(ward.settings.data_dir.rglob("images.txt"))
    checkpoint = ward.settings.data_dir / "training" / "0123456789abcdef" / "state.keras"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(bytes(10))
    for path in (old, shelf, shelf.with_name("rows.bin"), checkpoint):
        os.utime(path, (OLD, OLD))
    shown = removed(ward, logs=90, features=90, dry_run=True)
    assert (shown["logs"].n, shown["features"].n) == (1, 2)
    assert old.exists()
    assert removed(ward, logs=90, features=90) == shown
    assert [path for path in logs.rglob("*") if path.is_file()] == [young]
    assert not old.parent.exists()
    assert not shelf.exists() and not checkpoint.parent.exists()
    assert removed(ward, logs=90, features=90)["features"].n == 0


def test_the_list_of_a_snapshot_goes_only_if_no_model_was_trained_or_judged_on_it(ward: Ward) -> None:
    cells = [int(str(cell)) for (cell,) in ward.rows("SELECT cell_id FROM bloodcell.cell ORDER BY 1")]
    unused = ward.laboratory.dataset("unused", [(cells[2], "training")])
    age(ward)
    assert removed(ward, snapshots=90)["snapshots"].n == 0  # d16e57 is the champion's, and the other is the newest
    ward.laboratory.dataset("newest", [(cells[3], "training")])
    assert removed(ward, snapshots=500)["snapshots"].n == 0
    assert removed(ward, snapshots=90, dry_run=True)["snapshots"].n == 1
    assert removed(ward, snapshots=90)["snapshots"].n == 1
    left = ward.rows("SELECT DISTINCT dataset_digest FROM bloodcell.dataset_image ORDER BY 1")
    assert left == [("d16e57",), ("newest",)]
    assert ward.rows(f"SELECT n_training FROM bloodcell.dataset WHERE dataset_digest = '{unused}'") == [(1,)]
    with ward.database.begin() as connection:  # the function itself refuses what is in use
        assert connection.scalar(sa.text("SELECT bloodcell.forget_snapshot('d16e57')")) == 0
