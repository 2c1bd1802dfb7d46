"""Bundles are evaluated on a folder of images, with the library and with the command."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from bloodcell.cells.calls import decide
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import TrainingDataError
from bloodcell.evaluation.bundle_evaluation import BundleEvaluation, evaluate_bundles
from bloodcell.evaluation.evaluation_plots import write_plots
from bloodcell.evaluation.evaluation_tables import evaluation_json, evaluation_tables
from bloodcell.registry.bundle import Bundle
from bloodcell.settings import Settings
from bloodcell.storage.decoding import resized
from bloodcell.training.bundle_training import train
from tests.small_cells import SVM_RECIPE, make_cells, model_settings, random_weights


@pytest.fixture(scope="module")
def quick_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return model_settings(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def bundles(svm_bundle: Bundle, tuned_bundle: Bundle) -> tuple[Bundle, Bundle]:
    return svm_bundle, tuned_bundle


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five unseen cells of each class: 40 in all, more than two batches and not a multiple of the batch size."""
    folder = make_cells(tmp_path_factory.mktemp("held_out") / "cells", 5, seed=7)
    (folder / "ig" / "broken.png").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def evaluated(held_out: Path, bundles: tuple[Bundle, Bundle], quick_settings: Settings) -> dict[str, BundleEvaluation]:
    progress: list[tuple[int, int]] = []
    result = evaluate_bundles(held_out, bundles, quick_settings, lambda *done: progress.append(done))
    assert progress == [(16, 40), (32, 40), (40, 40)]
    return result


def test_every_usable_image_is_evaluated_once_by_each_model(
    evaluated: dict[str, BundleEvaluation], bundles: tuple[Bundle, Bundle]
) -> None:
    assert list(evaluated) == [bundle.model_id for bundle in bundles]
    for bundle, one in zip(bundles, evaluated.values(), strict=True):
        assert one.variant == bundle.manifest.variant
        assert one.evaluation.n_cells == 40
        assert [figures.n_true for figures in one.evaluation.classes] == [5] * 8
        assert one.n_broken == 1
        assert one.n_seen == 0


def test_figures_are_those_of_the_loaded_model_and_its_thresholds(
    evaluated: dict[str, BundleEvaluation], bundles: tuple[Bundle, Bundle], held_out: Path
) -> None:
    from bloodcell.inference.model_loading import load_model

    bundle = bundles[0]
    paths = [
        (path, i)
        for i, cell_class in enumerate(CELL_CLASSES)
        for path in sorted((held_out / cell_class).glob("[0-9]*.png"))
    ]
    pixels = np.stack([resized(Image.open(path), *bundle.input_size) for path, _ in paths])
    output = load_model(bundle).predict(pixels, verbose=0)
    calls = decide(
        output["probabilities"],
        output["novelty"].reshape(-1),
        confidence_threshold=bundle.manifest.confidence_threshold,
        novelty_threshold=bundle.manifest.novelty_threshold,
    )
    evaluation = evaluated[bundle.model_id].evaluation
    truth = np.array([i for _, i in paths])
    assert evaluation.accuracy.n == (calls.top == truth).sum()
    assert evaluation.unclassified.n == calls.unclassified.sum()
    assert evaluation.accuracy.n > 20, "each class is a disc of its own colour and size"


def test_images_on_which_a_model_was_trained_are_recognised(
    cells: Path, bundles: tuple[Bundle, Bundle], quick_settings: Settings
) -> None:
    (one,) = evaluate_bundles(cells, bundles[:1], quick_settings).values()
    assert one.n_seen == one.evaluation.n_cells == 96
    with pytest.raises(TrainingDataError, match="seen all 96 images"):
        evaluate_bundles(cells, bundles[:1], quick_settings, unseen=True)


@pytest.mark.slow
def test_images_held_out_by_digest_are_those_that_the_model_has_not_seen(cells: Path, quick_settings: Settings) -> None:
    bundle = train("vgg16_svm", cells, quick_settings, recipe=SVM_RECIPE, base=random_weights(), holdout_fraction=0.25)
    (one,) = evaluate_bundles(cells, [bundle], quick_settings, unseen=True).values()
    held = [path for path in cells.glob("*/*.png") if sha256(path.read_bytes()).hexdigest()[-12] < "4"]
    assert 10 < len(held) < 40
    assert (one.evaluation.n_cells, one.n_seen) == (len(held), 0)
    seen = bundle.manifest.data
    assert seen.n_training + seen.n_validation == 96 - len(held)
    assert "held out: 0.25 by the end of the sha256" in seen.rule


def test_a_folder_without_images_is_refused(
    tmp_path: Path, bundles: tuple[Bundle, Bundle], quick_settings: Settings
) -> None:
    with pytest.raises(TrainingDataError, match="No images"):
        evaluate_bundles(tmp_path, bundles[:1], quick_settings)


def test_tables_and_json_contain_the_figures(evaluated: dict[str, BundleEvaluation]) -> None:
    one = next(iter(evaluated.values()))
    console = Console(width=80)
    with console.capture() as captured:
        console.print(evaluation_tables(one))
    text = captured.get()
    assert "vgg16_svm" in text
    assert "40 cells" in text
    assert "! Left out: 1 file in the folder cannot be decoded" in text
    assert f"accuracy {one.evaluation.accuracy.percentage:.1f} % (" in text.replace("100 %", "100.0 %")
    assert "erythroblast" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    document = json.loads(json.dumps(evaluation_json(one)))
    assert document["accuracy"]["n"] == one.evaluation.accuracy.n
    assert np.sum(document["confusion"]["most_probable"]) == 40
    assert np.sum(document["confusion"]["called_then_unclassified"]) == 40
    assert [figures["class"] for figures in document["classes"]] == list(CELL_CLASSES)


def test_plots_are_a_readable_png(evaluated: dict[str, BundleEvaluation], tmp_path: Path) -> None:
    write_plots(next(iter(evaluated.values())).evaluation, tmp_path / "plots.png", title="vgg16_svm")
    with Image.open(tmp_path / "plots.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2_000
        assert len(picture.convert("RGB").getcolors(10_000_000) or []) > 100


def test_command_evaluates_bundles_without_a_database(
    held_out: Path, bundles: tuple[Bundle, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from bloodcell.cli.evaluate import evaluate

    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    app = typer.Typer()
    app.command()(evaluate)
    options = [option for bundle in bundles for option in ("--bundle", str(bundle.folder))]
    result = CliRunner().invoke(
        app, ["--images", str(held_out), *options, "--json", "--png", str(tmp_path / "plots.png")]
    )
    assert result.exit_code == 0, result.output
    assert [one["model_id"] for one in json.loads(result.stdout)] == [bundle.model_id for bundle in bundles]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(
        f"plots-{bundle.model_id[:12]}.png" for bundle in bundles
    )


def test_a_folder_without_one_of_the_classes_is_evaluated_on_the_others(
    bundles: tuple[Bundle, Bundle], quick_settings: Settings, tmp_path: Path
) -> None:
    folder = make_cells(tmp_path / "cells", 2, seed=9)
    shutil.rmtree(folder / "basophil")
    one = evaluate_bundles(folder, bundles[:1], quick_settings)[bundles[0].model_id]
    assert one.evaluation.n_cells == 14
    assert one.evaluation.classes[0].n_true == 0
