"""The speed of models is measured as `classify` runs them, and the best batch size is proposed."""

from __future__ import annotations

import json
from functools import partial

import pytest
from typer.testing import CliRunner

from bloodcell.cli.models import app
from bloodcell.cli.output import speed_table
from bloodcell.evaluation.model_speed import Speed, measure_speed
from bloodcell.registry.bundle import Bundle
from bloodcell.settings import Settings
from tests.laboratory import make_champion


def test_each_batch_size_and_decoding_are_measured(svm_bundle: Bundle, settings: Settings) -> None:
    seen = []
    found = measure_speed(
        [svm_bundle], settings, batch_sizes=(2, 8), seconds=0.2, on_progress=lambda *args: seen.append(args)
    )
    assert found.called_per_s.keys() == {2, 8}
    assert min(found.called_per_s.values()) > 0
    assert found.decoded_per_s > 10
    assert found.no_memory_for is None
    assert "cores" in found.device or "gpu" in found.device
    assert seen[-1] == ("Batch sizes", 2, 2)


def test_the_smallest_batch_that_is_nearly_as_fast_is_proposed() -> None:
    def proposed(speeds: dict[int, float]) -> int:
        return Speed("a device", 1.0, speeds, None).proposed

    assert proposed({8: 50.0, 16: 99.0, 32: 100.0, 64: 90.0}) == 16
    assert proposed({8: 50.0, 16: 90.0, 32: 100.0}) == 32
    assert proposed({8: 1.0}) == 8


def test_the_command_measures_the_serving_models(
    svm_bundle: Bundle, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_champion(settings, svm_bundle)
    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", str(settings.plain_database_url))
    monkeypatch.setattr("bloodcell.evaluation.model_speed.measure_speed", partial(measure_speed, seconds=0.1))
    measured = CliRunner().invoke(app, ["speed", "--batches", "4,2", "--json"])
    assert measured.exit_code == 0, measured.output
    assert list(json.loads(measured.stdout)["called_per_s"]) == ["2", "4"]
    refused = CliRunner().invoke(app, ["speed", "--batches", "8,none"])
    assert refused.exit_code == 2
    assert "8,none" in refused.output


def test_the_table_shows_the_proposed_setting(capsys: pytest.CaptureFixture[str]) -> None:
    def said(measured: Speed) -> str:
        speed_table(measured, ["vgg16"], Settings(batch_cells=16))
        return capsys.readouterr().out

    found = said(Speed("2 cores", 800.0, {8: 4.0, 16: 8.0, 32: 16.0}, 64))
    assert "vgg16 on 2 cores" in found
    assert "16 *" in found
    assert "800 cells/s, so the models are the bottleneck" in found
    assert "not enough memory for batches of 64 cells" in found
    assert "Next: BLOODCELL_BATCH_CELLS=32" in found
    found = said(Speed("gpu:0", 800.0, {8: 4.0, 16: 900.0}, None))
    assert "decoding is the bottleneck" in found
    assert "keep it" in found
