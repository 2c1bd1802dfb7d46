from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from bloodcell.cells.image_size import Size
from bloodcell.classify import Shard, classify_shard, plan_shards, shard_classification
from bloodcell.errors import BundleError, ConfigurationError, StoreUnavailableError, UnknownRecordError
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_output import ModelOutput
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.promotion import rollback
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.decoding import ImageBounds, decode, resized
from bloodcell.storage.store import Store
from tests.classify.conftest import fill_night
from tests.ingest.night import NIGHT
from tests.laboratory import at_once

Serving = tuple[str, str]


def calls(database: Database) -> list[tuple[object, ...]]:
    """Returns every call with its slide, file and model, without run and time."""
    with database.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT barcode, file_name, model_id, called_class, top_class, unclassified_reason, confidence,"
                " novelty, p_basophil, p_platelet FROM bloodcell.cell_result ORDER BY 1, 2, 3"
            )
        )
        return [tuple(row) for row in rows]


def classify_all(settings: Settings) -> int:
    return sum(classify_shard(shard, settings).n_calls for shard in plan_shards(settings))


def test_every_cell_is_called_once_by_every_serving_model(
    settings: Settings, serving: Serving, database: Database
) -> None:
    fill_night(settings)
    assert classify_all(settings) == 120
    found = calls(database)
    assert len(found) == 120
    assert {row[2] for row in found} == set(serving)


def test_calls_are_the_models_output_for_the_stored_image(
    settings: Settings, serving: Serving, database: Database, svm_bundle: Bundle
) -> None:
    fill_night(settings, slides=1, cells_each=5)
    classify_all(settings)
    network = MergedNetwork([svm_bundle], batch_cells=4)
    store, bounds = Store.of(settings), ImageBounds.of(settings)
    with database.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT * FROM bloodcell.cell_result WHERE model_id = :m ORDER BY cell_id"), {"m": serving[1]}
        ).all()
    pixels = np.stack([resized(decode(store.read_image(row.sha256), bounds), *svm_bundle.input_size) for row in rows])
    output = network({svm_bundle.input_size: pixels})[svm_bundle.model_id]
    for row, probabilities, novelty in zip(rows, output.probabilities, output.novelty, strict=True):
        assert row.p_basophil == pytest.approx(probabilities[0], abs=2e-5)
        assert row.p_platelet == pytest.approx(probabilities[7], abs=2e-5)
        assert row.confidence == pytest.approx(probabilities.max(), abs=2e-5)
        assert row.novelty == pytest.approx(novelty, abs=2e-4)


def test_a_second_run_does_nothing(settings: Settings, serving: Serving, database: Database) -> None:
    fill_night(settings)
    shards = plan_shards(settings)
    classify_all(settings)
    before = calls(database)
    assert plan_shards(settings) == []
    again = [classify_shard(shard, settings) for shard in shards]
    assert [(summary.n_cells, summary.n_calls) for summary in again] == [(0, 0)] * len(again)
    assert calls(database) == before


def test_a_new_challenger_calls_only_cells_that_it_has_not_called(
    settings: Settings, serving: Serving, database: Database
) -> None:
    fill_night(settings)
    [champion_only] = plan_shards(settings, model_ids=[serving[0][:12]])
    assert classify_shard(champion_only, settings).n_calls == 60
    [rest] = plan_shards(settings)
    summary = classify_shard(rest, settings)
    assert (summary.n_cells, summary.n_calls) == (60, 60)
    assert len(calls(database)) == 120


def test_a_model_named_twice_is_one_model(settings: Settings, serving: Serving) -> None:
    fill_night(settings, slides=1)
    [shard] = plan_shards(settings, model_ids=[serving[0], serving[0][:12]])
    assert shard.model_ids == (serving[0],)


def test_redo_replaces_rows_without_duplicating_any(settings: Settings, serving: Serving, database: Database) -> None:
    fill_night(settings, slides=1)
    classify_all(settings)
    before = calls(database)
    [shard] = plan_shards(settings, night=NIGHT, redo=True)
    summary = classify_shard(shard, settings)
    assert summary.n_calls == 40
    assert calls(database) == before
    with database.connect() as connection:
        runs = set(connection.scalars(sa.text("SELECT run_id FROM bloodcell.cell_call")))
    assert runs == {summary.run_id}


def test_shards_consist_of_whole_slides_and_survive_json(settings: Settings, serving: Serving) -> None:
    fill_night(settings)
    shards = plan_shards(settings.model_copy(update={"shard_cells": 45}), night=NIGHT)
    assert [shard.n_cells for shard in shards] == [40, 20]
    assert len({slide for shard in shards for slide in shard.slide_ids}) == 3
    assert [Shard.from_json(shard.to_json()) for shard in shards] == shards


def test_a_plan_covers_the_requested_slides_or_night(settings: Settings, serving: Serving) -> None:
    fill_night(settings)
    assert [shard.n_cells for shard in plan_shards(settings, slides=["S1"])] == [20]
    assert plan_shards(settings, night=NIGHT.replace(day=1)) == []
    with pytest.raises(UnknownRecordError, match="no slide NOPE"):
        plan_shards(settings, slides=["NOPE", "S1"])
    with pytest.raises(UnknownRecordError, match="bloodcell models list"):
        plan_shards(settings, model_ids=["123456"])


def test_without_a_champion_nothing_is_planned(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="No model is champion"):
        plan_shards(settings)
    with pytest.raises(ConfigurationError, match="no earlier champion"):
        _rollback(settings)


def _rollback(settings: Settings) -> None:
    from bloodcell.storage.database import open_database

    with open_database(settings).begin() as connection:
        rollback(connection, Store.of(settings), replaces=None, by="test", reason="test")


def test_an_altered_bundle_classifies_nothing(settings: Settings, serving: Serving, database: Database) -> None:
    fill_night(settings)
    [shard] = plan_shards(settings)
    model = Store.of(settings).bundle_folder(serving[0]) / "model.keras"
    body = bytearray(model.read_bytes())
    body[len(body) // 2] ^= 1
    model.write_bytes(body)
    with pytest.raises(BundleError, match="altered"):
        classify_shard(shard, settings)
    assert calls(database) == []


def test_an_altered_image_is_left_out_while_the_others_are_classified_and_the_run_fails(
    settings: Settings, serving: Serving, database: Database
) -> None:
    fill_night(settings)
    [image] = sorted((settings.data_dir / "store" / "images").rglob("*"))[-1:]
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + b"!")
    [shard] = plan_shards(settings)
    with pytest.raises(StoreUnavailableError, match=f"1 of 60 cells.*{image.name}"):
        classify_shard(shard, settings)
    assert len(calls(database)) == 118
    image.write_bytes(whole)
    assert classify_all(settings) == 2


def test_the_command_also_reports_the_slides_whose_images_are_complete(
    settings: Settings, serving: Serving, database: Database
) -> None:
    fill_night(settings)
    [image] = sorted((settings.data_dir / "store" / "images").rglob("*"))[-1:]
    image.write_bytes(b"lost")
    environment = {
        **os.environ,
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
    }
    command = [sys.executable, "-m", "bloodcell", "classify", "--pending"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert image.name in done.stderr and "Traceback" not in done.stderr
    with database.connect() as connection:
        states = connection.scalars(sa.text("SELECT status FROM bloodcell.slide_status ORDER BY 1")).all()
    assert states == ["reported", "reported", "waiting"]


def test_a_model_that_returns_nan_is_ignored_and_the_others_continue(
    settings: Settings, serving: Serving, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_night(settings)
    [shard] = plan_shards(settings)
    called = MergedNetwork.__call__

    def broken(network: MergedNetwork, batches: Mapping[Size, NDArray[np.uint8]]) -> dict[str, ModelOutput]:
        outputs = called(network, batches)
        outputs[serving[1]].probabilities[3] = np.nan
        return outputs

    monkeypatch.setattr(MergedNetwork, "__call__", broken)
    with pytest.raises(BundleError, match=f"{serving[1][:12]}.*not finite for 1 of 32 cells"):
        classify_shard(shard, settings)
    assert [row[2] for row in calls(database)] == [serving[0]] * 60


def test_two_simultaneous_runs_on_one_shard_duplicate_nothing(
    settings: Settings, serving: Serving, database: Database
) -> None:
    fill_night(settings)
    [shard] = plan_shards(settings)
    assert not at_once(2, lambda: classify_shard(shard, settings))
    assert len(calls(database)) == 120


def test_a_killed_run_keeps_its_rows_and_the_next_run_completes_them(
    settings: Settings, serving: Serving, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_night(settings, slides=8, cells_each=50)
    program = (
        "from bloodcell.settings import Settings\n"
        "from bloodcell.classify import plan_shards, shard_classification\n"
        "shard_classification._FLUSH_CELLS = 16\n"
        "s = Settings()\n"
        "[shard_classification.classify_shard(shard, s) for shard in plan_shards(s)]\n"
    )
    environment = {
        **os.environ,
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
        "BLOODCELL_BATCH_CELLS": "16",
    }
    child = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(calls(database)) < 32:
        assert child.poll() is None
        assert time.monotonic() < deadline
    child.send_signal(signal.SIGKILL)
    child.wait()
    disturbed = calls(database)
    assert 32 <= len(disturbed) < 800
    monkeypatch.setattr(shard_classification, "_FLUSH_CELLS", 16)
    small = settings.model_copy(update={"batch_cells": 16})
    classify_all(small)
    ended = calls(database)
    assert len(ended) == 800
    undisturbed = _undisturbed(small, database)
    assert [row[:6] for row in ended] == [row[:6] for row in undisturbed]
    np.testing.assert_allclose(
        np.array([row[6:] for row in ended], float), np.array([row[6:] for row in undisturbed], float), atol=2e-4
    )


def _undisturbed(settings: Settings, database: Database) -> list[tuple[object, ...]]:
    for shard in plan_shards(settings, night=NIGHT, redo=True):
        classify_shard(shard, settings)
    return calls(database)


def test_the_run_is_recorded_with_its_models(settings: Settings, serving: Serving, database: Database) -> None:
    fill_night(settings, slides=1, cells_each=3)
    [shard] = plan_shards(settings, night=NIGHT)
    summary = classify_shard(shard, settings, airflow_run="manual__1")
    with database.connect() as connection:
        run = connection.execute(
            sa.text("SELECT * FROM bloodcell.run_history WHERE run_id = :r"), {"r": summary.run_id}
        ).one()
    assert (run.stage, run.state, run.n_cells, run.airflow_run, run.night) == (
        "classify",
        "succeeded",
        3,
        "manual__1",
        NIGHT,
    )
    assert run.detail["models"] == list(serving)


def test_a_missing_store_folder_is_reported(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    fill_night(settings)
    [shard] = plan_shards(settings)
    classify_shard(plan_shards(settings, slides=["S0"])[0], settings)  # the network is loaded, and stays
    (settings.data_dir / "store" / "images").rename(tmp_path / "unmounted")
    with pytest.raises(StoreUnavailableError, match="40 of 40 cells could not be read"):
        classify_shard(shard, settings)
    (settings.data_dir / "store" / "models").rename(tmp_path / "unmounted" / "models")
    with pytest.raises(StoreUnavailableError, match="is unavailable"):
        classify_shard(shard, settings)


def test_an_image_lost_in_one_pass_does_not_prevent_the_next_pass(
    settings: Settings, serving: Serving, database: Database
) -> None:
    fill_night(settings, slides=3, cells_each=20)
    classify_shard(plan_shards(settings, slides=["S0"], model_ids=[serving[0]])[0], settings)
    with database.connect() as connection:
        lost = connection.scalar(
            sa.text("SELECT min(sha256) FROM bloodcell.cell JOIN bloodcell.slide USING (slide_id) WHERE barcode = 'S1'")
        )
    (settings.data_dir / "store" / "images" / str(lost)[:2] / str(lost)).unlink()
    with pytest.raises(StoreUnavailableError, match="1 of 40 cells"):
        classify_shard(plan_shards(settings)[0], settings)
    assert len(calls(database)) == 120 - 2


def test_many_lost_images_of_one_slide_do_not_block_the_other_slides(
    settings: Settings, serving: Serving, database: Database
) -> None:
    fill_night(settings, slides=2, cells_each=40)
    with database.connect() as connection:
        lost = connection.scalars(
            sa.text("SELECT sha256 FROM bloodcell.cell JOIN bloodcell.slide USING (slide_id) WHERE barcode = 'S0'")
        ).all()
    for digest in lost:
        (settings.data_dir / "store" / "images" / digest[:2] / digest).unlink()
    [shard] = plan_shards(settings)
    with pytest.raises(StoreUnavailableError, match="40 of 80 cells"):
        classify_shard(shard, settings)
    assert {row[0] for row in calls(database)} == {"S1"}
    assert len(calls(database)) == 80
    with database.connect() as connection:
        run = connection.execute(sa.text("SELECT * FROM bloodcell.run_history WHERE stage = 'classify'")).one()
    assert (run.state, run.n_cells, run.detail["calls"]) == ("failed", 40, 80)
