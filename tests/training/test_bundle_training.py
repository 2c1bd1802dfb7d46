from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.variants import VARIANTS
from bloodcell.errors import ConfigurationError, TrainingDataError
from bloodcell.inference.model_loading import load_model
from bloodcell.inference.model_output import OUTPUTS
from bloodcell.registry.bundle import Bundle, images_of
from bloodcell.registry.recipes import Recipe, SvmSearch, base_of, default_recipe
from bloodcell.registry.rehearsal import read_rehearsal
from bloodcell.settings import Settings
from bloodcell.storage.decoding import ImageBounds, decode, resized
from bloodcell.training import fitting
from bloodcell.training.base_networks import build_base
from bloodcell.training.base_weights import load_base_weights
from bloodcell.training.bundle_training import train
from bloodcell.training.image_folders import read_image_folders, split_images
from bloodcell.training.novelty import evidence
from bloodcell.training.svm import fit, search
from tests import small_cells
from tests.conftest import small_disk
from tests.small_cells import PIXELS_RECIPE, SVM_RECIPE, TUNED_RECIPE, make_cells, model_settings, random_weights

pytestmark = pytest.mark.training

STAND_INS = {"vgg16": "vgg16_imagenet_notop", "inception_v3": "inception_v3_imagenet_notop_partial"}
ROOT = Path(__file__).resolve().parents[2]


def _weights(bundle: Bundle) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in load_model(bundle).get_weights()]


def _kernel(model: keras.Model, layer: str) -> np.ndarray:
    return np.asarray(model.get_layer(layer).kernel)


@pytest.mark.parametrize("kind", ["svm_bundle", "tuned_bundle"])
def test_a_trained_model_classifies_unseen_cells(kind: str, pixels: np.ndarray, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(kind)
    output = load_model(bundle).predict_on_batch(pixels)
    truth = np.repeat(np.arange(8), 3)
    assert (output["probabilities"].argmax(axis=1) == truth).mean() > 0.8
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    strange = load_model(bundle).predict_on_batch(noise)["novelty"]
    assert (strange > bundle.manifest.novelty_threshold).all()


@pytest.mark.parametrize("kind", ["svm_bundle", "tuned_bundle"])
def test_the_manifest_accounts_for_the_training(
    kind: str, cells: Path, settings: Settings, request: pytest.FixtureRequest
) -> None:
    manifest = request.getfixturevalue(kind).manifest
    assert manifest.classes == CELL_CLASSES
    assert manifest.data.dataset_digest == read_image_folders(settings, cells).digest
    assert (manifest.data.n_training, manifest.data.n_validation) == (8 * 9, 8 * 3)
    metrics = manifest.metrics
    assert metrics.negative_log_likelihood <= metrics.uncalibrated_negative_log_likelihood + 1e-6
    assert metrics.coverage >= manifest.recipe.min_coverage
    assert manifest.recipe == (SVM_RECIPE if manifest.variant == "vgg16_svm" else TUNED_RECIPE)


def test_validation_metrics_are_those_of_the_stored_model(
    tuned_bundle: Bundle, cells: Path, settings: Settings
) -> None:
    """Training reads cached maps, and the stored model reads pixels; both have to see the same cells."""
    _, validation = split_images(read_image_folders(settings, cells).images, TUNED_RECIPE.validation_fraction)
    bounds = ImageBounds.of(settings)
    pixels = np.stack([resized(decode(image.path.read_bytes(), bounds), 32, 32) for image in validation])
    labels = np.array([CELL_CLASSES.index(image.cell_class) for image in validation])
    probabilities = load_model(tuned_bundle).predict_on_batch(pixels)["probabilities"]
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(tuned_bundle.manifest.metrics.negative_log_likelihood, rel=0.02, abs=1e-3)


def test_deeper_layers_are_tuned_and_frozen_ones_are_not(tuned_bundle: Bundle, svm_bundle: Bundle) -> None:
    tuned, frozen = load_model(tuned_bundle), load_model(svm_bundle)
    for name in ("block1_conv1", "block2_conv2"):
        assert np.array_equal(_kernel(tuned, name), _kernel(frozen, name))

    base = build_base("vgg16", 32)
    load_base_weights(base, "vgg16", random_weights(), Settings())
    assert not np.array_equal(_kernel(base, "block3_conv2"), _kernel(tuned, "block3_conv2"))


def test_novelty_comes_from_frozen_layers_and_does_not_depend_on_the_tuned_ones(
    cells: Path, settings: Settings, pixels: np.ndarray
) -> None:
    assert TUNED_RECIPE.tuning is not None
    short = replace(TUNED_RECIPE.tuning, head_epochs=2, deep_epochs=1)
    recipe = replace(TUNED_RECIPE, embedding_layers=("block1_pool",), tuning=short)
    longer = replace(recipe, tuning=replace(short, deep_epochs=3, deep_learning_rate=1e-3))
    one, other = (
        load_model(train("vgg16", cells, settings, recipe=each, base=random_weights())).predict_on_batch(pixels)
        for each in (recipe, longer)
    )
    np.testing.assert_allclose(one["embedding"], other["embedding"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one["novelty"], other["novelty"], rtol=1e-4)
    assert np.abs(one["probabilities"] - other["probabilities"]).max() > 1e-3


def test_an_embedding_of_layers_that_are_trained_is_refused_before_the_training(
    cells: Path, settings: Settings
) -> None:
    recipe = replace(TUNED_RECIPE, embedding_layers=("block3_conv1",))
    with pytest.raises(ConfigurationError, match=r"up to block2_pool, received block3_conv1"):
        train("vgg16", cells, settings, recipe=recipe, base=random_weights())


def test_training_from_pixels_tunes_every_layer_and_the_model_takes_the_whole_image(pixels_bundle: Bundle) -> None:
    base = build_base("vgg16", 40, 32)
    load_base_weights(base, "vgg16", random_weights(), Settings())
    model = load_model(pixels_bundle)
    assert model.input_shape == (None, 40, 40, 3)
    for name in ("block1_conv1", "block3_conv3"):
        assert np.abs(_kernel(model, name) - _kernel(base, name)).max() > 1e-4
    assert {layer.compute_dtype for layer in model.layers if layer.weights} == {"float32"}
    assert pixels_bundle.manifest.metrics.accuracy > 0.5


def test_a_model_that_classifies_nothing_is_still_a_bundle(
    cells: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    unsure = replace(SVM_RECIPE, min_confidence=1.1)  # which no probability reaches
    bundle = train("vgg16_svm", cells, settings, recipe=unsure, base=random_weights())
    assert (bundle.manifest.metrics.coverage, bundle.manifest.metrics.covered_accuracy) == (0.0, None)
    assert "leaves every cell unclassified" in caplog.text


def test_the_same_seed_gives_the_same_weights_and_leaves_no_temporary_files(
    svm_bundle: Bundle, cells: Path, settings: Settings
) -> None:
    again = train("vgg16_svm", cells, settings, recipe=SVM_RECIPE, base=random_weights())
    for first, second in zip(_weights(svm_bundle), _weights(again), strict=True):
        np.testing.assert_array_equal(first, second)
    assert {each.name for each in (settings.data_dir / "training").iterdir()} == {"features", "locks"}
    assert again.folder.parent == settings.data_dir / "bundles"


def test_a_model_trained_with_bfloat16_is_stored_and_works_with_float32(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PIXELS_RECIPE.tuning is not None
    monkeypatch.setattr(fitting, "training_precision", lambda policy: policy)  # on a processor that imitates it, too
    short = replace(PIXELS_RECIPE.tuning, precision="mixed_bfloat16", head_epochs=1, deep_epochs=1, batch_cells=8)
    recipe = replace(PIXELS_RECIPE, tuning=short, validation_fraction=0.5)
    bundle = train("vgg16", make_cells(tmp_path / "few", 4), settings, recipe=recipe, base=random_weights())
    model = load_model(bundle)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    outputs = model.predict_on_batch(np.zeros((2, 40, 40, 3), np.uint8))
    assert {name: output.dtype for name, output in outputs.items()} == dict.fromkeys(OUTPUTS, np.float32)
    assert (outputs["probabilities"].sum(axis=1) < 1).all()  # the rest is the probability of no class


@pytest.mark.parametrize(("recipe", "n_steps"), [("TUNED_RECIPE", 9), ("PIXELS_RECIPE", 9)])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    recipe: str, n_steps: int, cells: Path, settings: Settings, request: pytest.FixtureRequest
) -> None:
    undisturbed = request.getfixturevalue("tuned_bundle" if recipe == "TUNED_RECIPE" else "pixels_bundle")
    script = ROOT / "tests" / "training" / "killed_training.py"
    moment = ["train deep", str(2 * n_steps + 2)]  # in the third epoch
    command = [sys.executable, str(script), str(cells), str(settings.data_dir), recipe, str(random_weights()), *moment]
    killed = subprocess.run(command, cwd=ROOT, env=_environment(), check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (settings.data_dir / "bundles").exists()
    steps: list[tuple[str, int]] = []
    resumed = train(
        "vgg16",
        cells,
        settings,
        recipe=getattr(small_cells, recipe),
        base=random_weights(),
        on_progress=lambda step, done, total: steps.append((step, done)),
    )
    again = [each for each in steps if each[0].startswith("train ")]
    n_epochs = getattr(small_cells, recipe).tuning.deep_epochs
    assert again == [("train deep", done) for done in range(2 * n_steps + 1, n_epochs * n_steps + 1)]
    for first, second in zip(_weights(undisturbed), _weights(resumed), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_a_full_disk_is_reported_and_leaves_no_incomplete_bundle(
    cells: Path, settings: Settings, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "100k") as disk:
        with pytest.raises(ConfigurationError, match="a disk is full"):
            train("vgg16_svm", cells, settings, recipe=SVM_RECIPE, base=random_weights(), out=disk / "bundles")
        assert list((disk / "bundles").iterdir()) == []
    whole = train("vgg16_svm", cells, settings, recipe=SVM_RECIPE, base=random_weights())
    assert whole.manifest.files.keys() == {"images.csv", "look.npz", "model.keras", "reference.npz", "rehearsal.npz"}


def test_a_warm_start_begins_with_the_weights_of_an_earlier_model(
    tuned_bundle: Bundle, settings: Settings, tmp_path: Path
) -> None:
    assert TUNED_RECIPE.tuning is not None
    short = replace(TUNED_RECIPE, tuning=replace(TUNED_RECIPE.tuning, head_epochs=1, deep_epochs=2))
    new_cells = make_cells(tmp_path / "new", 12, seed=5)
    for before, after in (
        ("ig", "was ig"),
        ("platelet", "ig"),
        ("was ig", "platelet"),
    ):  # so that there is much to learn
        (new_cells / before).rename(new_cells / after)
    bundle = train("vgg16", new_cells, settings, recipe=short, base=tuned_bundle)
    earlier, later = load_model(tuned_bundle), load_model(bundle)
    assert np.array_equal(_kernel(earlier, "block1_conv1"), _kernel(later, "block1_conv1"))
    step = np.abs(_kernel(later, "block3_conv2") - _kernel(earlier, "block3_conv2")).max()
    assert 0 < step < 0.01  # two epochs away from the earlier weights, and far from new random ones
    assert bundle.manifest.base_weights.kind == "champion"
    assert bundle.manifest.base_weights.sha256 == tuned_bundle.model_id
    assert bundle.manifest.metrics.accuracy > 0.5


def test_an_svm_that_is_trained_on_another_laboratory_remembers_the_first(
    svm_bundle: Bundle, settings: Settings, tmp_path: Path, pixels: np.ndarray
) -> None:
    elsewhere = make_cells(tmp_path / "elsewhere", 6, seed=5)
    for path in elsewhere.rglob("*.png"):  # as different as a laboratory can be
        with Image.open(path) as image:
            ImageOps.invert(image).save(path)
    forgetful, remembering = (
        train("vgg16_svm", elsewhere, settings, recipe=SVM_RECIPE, base=base) for base in (random_weights(), svm_bundle)
    )
    truth = np.repeat(np.arange(8), len(pixels) // 8)

    def right(bundle: Bundle) -> float:
        top = load_model(bundle).predict_on_batch(pixels)["probabilities"].argmax(axis=1)
        return float((top == truth).mean())

    assert right(remembering) > 0.9 * right(svm_bundle) > right(forgetful) + 0.3
    assert remembering.manifest.metrics.accuracy > 0.8
    assert images_of(svm_bundle) < images_of(remembering)
    again = train("vgg16_svm", make_cells(tmp_path / "third", 6, seed=9), settings, recipe=SVM_RECIPE, base=remembering)
    np.testing.assert_array_equal(read_rehearsal(again).features, read_rehearsal(svm_bundle).features)


def test_what_a_model_remembers_is_not_learnt_where_it_would_validate(
    svm_bundle: Bundle, cells: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The same images, of which more validate: what the model kept of them would make the new one look better."""
    halves = replace(SVM_RECIPE, validation_fraction=0.5)
    again, without = (
        train("vgg16_svm", cells, settings, recipe=halves, base=base) for base in (svm_bundle, random_weights())
    )
    assert "was trained on" in caplog.text
    for one, other in zip(_weights(again), _weights(without), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stage_that_makes_a_model_worse_is_undone(tuned_bundle: Bundle, cells: Path, settings: Settings) -> None:
    assert TUNED_RECIPE.tuning is not None
    wild = replace(TUNED_RECIPE.tuning, head_epochs=1, head_learning_rate=10.0, deep_epochs=1, deep_learning_rate=10.0)
    bundle = train("vgg16", cells, settings, recipe=replace(TUNED_RECIPE, tuning=wild), base=tuned_bundle)
    assert bundle.manifest.choice == "head of epoch 0, then deeper layers of epoch 0"
    for first, second in zip(_weights(tuned_bundle), _weights(bundle), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_a_warm_start_needs_a_model_with_the_same_features(
    tuned_bundle: Bundle, cells: Path, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used for a warm start"):
        train("vgg16_svm", cells, settings, recipe=SVM_RECIPE, base=tuned_bundle)


def test_a_warm_start_keeps_the_network_of_a_release_that_knew_neither_colours_nor_images_of_no_class(
    cells: Path, settings: Settings
) -> None:
    tuning = PIXELS_RECIPE.tuning
    assert tuning is not None
    none = replace(tuning, head_epochs=1, deep_epochs=1, deep_learning_rate=0.0)
    former = replace(PIXELS_RECIPE, standardises_colour=False, tuning=replace(none, outlier_share=0.0))
    earlier = train("vgg16", cells, settings, recipe=former, base=random_weights())
    later = train("vgg16", cells, settings, recipe=replace(PIXELS_RECIPE, tuning=none), base=earlier)
    one, other = load_model(earlier), load_model(later)
    for layer in ("block1_conv1", "block3_conv3"):
        np.testing.assert_array_equal(one.get_layer(layer).get_weights()[0], other.get_layer(layer).get_weights()[0])
    assert (one.get_layer("scores").units, other.get_layer("scores").units) == (8, 9)
    assert later.manifest.base_weights.sha256 == earlier.model_id


def test_an_svm_does_not_start_from_features_of_images_in_other_colours(
    svm_bundle: Bundle, cells: Path, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError, match="for an SVM also standardised colours"):
        train("vgg16_svm", cells, settings, recipe=replace(SVM_RECIPE, standardises_colour=True), base=svm_bundle)


def test_a_model_that_has_not_learnt_what_no_cell_is_is_not_kept(cells: Path, settings: Settings) -> None:
    """Validation images show cells only, so the head alone may look better than all epochs with images of no class."""
    tuning = PIXELS_RECIPE.tuning
    assert tuning is not None
    worse = replace(tuning, deep_epochs=1, deep_learning_rate=1e-2, warm_up=0.0)
    known = replace(worse, outlier_share=0.0)
    with_none, without = (
        train("vgg16", cells, settings, recipe=replace(PIXELS_RECIPE, tuning=each), base=random_weights())
        for each in (worse, known)
    )
    assert without.manifest.choice.endswith("deeper layers of epoch 0")
    assert with_none.manifest.choice.endswith("deeper layers of epoch 1")


def test_broken_images_are_left_out_of_the_training(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    cells = make_cells(tmp_path / "cells", 4)
    (cells / "ig" / "broken.png").write_bytes(b"\x89PNG")
    bundle = train("vgg16_svm", cells, settings, recipe=SVM_RECIPE, base=random_weights())
    assert bundle.manifest.data.n_training + bundle.manifest.data.n_validation == 32
    assert "broken.png" in caplog.text


def test_an_empty_class_stops_the_training_before_it_begins(tmp_path: Path, settings: Settings) -> None:
    cells = make_cells(tmp_path / "cells", 2)
    for path in (cells / "platelet").iterdir():
        path.unlink()
    with pytest.raises(TrainingDataError, match="'platelet'"):
        train("vgg16_svm", cells, settings, recipe=SVM_RECIPE, base=random_weights())


def test_an_unknown_variant_is_refused(cells: Path, settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="'vgg19'"):
        train("vgg19", cells, settings)


@pytest.mark.parametrize(
    "recipe",
    [SVM_RECIPE, Recipe(32, ("block1_pool",), svm=SvmSearch(costs=(10.0,), folds=2, landmarks=20))],
    ids=["all are landmarks", "some are landmarks"],
)
def test_the_stored_model_decides_like_scikit_learns_pipeline_on_the_same_images(
    recipe: Recipe, cells: Path, settings: Settings, pixels: np.ndarray
) -> None:
    bundle = train("vgg16_svm", cells, settings, recipe=recipe, base=random_weights())
    model = load_model(bundle)
    outputs = [model.get_layer(name).output for name in ("rooted_features", "decision")]
    network = keras.Model(model.inputs, outputs)
    training, _ = split_images(read_image_folders(settings, cells).images, recipe.validation_fraction)
    bounds = ImageBounds.of(settings)
    seen = np.stack([resized(decode(image.path.read_bytes(), bounds), 32, 32) for image in training])
    labels = np.array([CELL_CLASSES.index(image.cell_class) for image in training])
    features, _ = network.predict(seen, batch_size=settings.batch_cells, verbose=0)
    assert recipe.svm is not None
    choice = search(features, labels, recipe.svm, 0, lambda *_: None)
    pipeline = fit(features, labels, choice, recipe.svm)
    unseen, decision = network.predict_on_batch(pixels)
    expected = pipeline.decision_function(unseen.astype(np.float64))
    np.testing.assert_allclose(decision, expected, atol=1e-4)
    powers = np.exp(expected / bundle.manifest.temperature)
    probabilities = model.predict_on_batch(pixels)["probabilities"]
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-3)


def test_the_stored_novelty_is_that_of_distance_and_evidence(
    cells: Path, settings: Settings, pixels: np.ndarray
) -> None:
    recipes = [replace(SVM_RECIPE, evidence_share=share) for share in (0.0, 1.0)]
    plain, weighed = (train("vgg16_svm", cells, settings, recipe=recipe, base=random_weights()) for recipe in recipes)
    model, temperature = load_model(weighed), weighed.manifest.temperature
    layer = model.get_layer("lack_of_evidence")
    network = keras.Model(model.inputs, [model.get_layer("decision").output, model.output["novelty"]])
    scores, novelty = network.predict_on_batch(pixels)
    lack = layer.scale * evidence(scores, temperature) + layer.offset
    distance = load_model(plain).predict_on_batch(pixels)["novelty"]
    assert layer.scale < 0
    np.testing.assert_allclose(novelty, np.maximum(distance + lack, 0), rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_shortened_recipe_trains_a_model_on_real_cells_from_real_base_weights(
    variant: str, shared: Path, tmp_path: Path
) -> None:
    recipe = default_recipe(variant)
    for cell_class in CELL_CLASSES:
        (tmp_path / "cells" / cell_class).mkdir(parents=True)
        for path in sorted((shared / "pbc" / cell_class).glob("*.jpg"))[: 8 if recipe.tuning else 12]:
            (tmp_path / "cells" / cell_class / path.name).symlink_to(path)
    if recipe.tuning:
        # most processors only imitate bfloat16; a few small cells are trained with it
        recipe = replace(recipe, tuning=replace(recipe.tuning, deep_epochs=1, batch_cells=16, precision="float32"))
    settings = model_settings(tmp_path / "data", shared / "weights")
    bundle = train(variant, tmp_path / "cells", settings, recipe=replace(recipe, validation_fraction=0.25))
    assert bundle.manifest.metrics.accuracy > 0.35  # chance is 0.125
    assert bundle.manifest.base_weights.file == f"{STAND_INS[base_of(variant)]}.fp16.weights.h5"


def _environment() -> dict[str, str]:

    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
