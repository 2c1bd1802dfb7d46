"""The shipped models on unseen images: drawn cells are classified correctly, and an image's size has no effect."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.drawing.drops import draw_folder
from bloodcell.evaluation.bundle_evaluation import evaluate_bundles
from bloodcell.inference.model_output import calls_of
from bloodcell.inference.predicting import predict_all
from bloodcell.registry.bundle import Bundle, unseen_by
from bloodcell.registry.recipes import DEFAULT_RECIPES
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_file, read_image_folders
from tests.artefacts import ARTEFACTS, a_few, reader, spoiling

pytestmark = pytest.mark.slow

PER_CLASS = 4
LEAKING_SIZES = ((360, 360), (360, 363), (366, 369))
"""Widths and heights that occur only in some classes of the data set, so that a model could learn them."""


@pytest.fixture(scope="module")
def bundles() -> list[Bundle]:
    return shipped_bundles()


@pytest.fixture(scope="module")
def unseen(shared: Path, bundles: list[Bundle]) -> tuple[LabelledImage, ...]:
    """A few real images of every class that no shipped model was trained or validated on."""
    return a_few(unseen_by(bundles, read_image_folders(Settings(), shared / "pbc").images), PER_CLASS)


def test_they_have_the_default_recipes_so_that_a_warm_start_can_use_them(bundles: list[Bundle]) -> None:
    assert [bundle.manifest.recipe for bundle in bundles] == [
        DEFAULT_RECIPES[bundle.manifest.variant] for bundle in bundles
    ]


def test_drawn_cells_of_another_seed_are_classified_correctly(bundles: list[Bundle], tmp_path: Path) -> None:
    draw_folder(tmp_path / "drawn", cells_per_class=12, seed=5)
    found = evaluate_bundles(tmp_path / "drawn", bundles, Settings(data_dir=tmp_path))
    for one in found.values():
        assert one.n_seen == 0
        assert one.evaluation.accuracy.value is not None
        assert one.evaluation.accuracy.value >= 0.95, one.variant


def test_cells_like_the_training_cells_are_classified(bundles: list[Bundle], unseen: tuple[LabelledImage, ...]) -> None:
    outputs = predict_all(bundles, unseen, read_file, Settings(), lambda *_: None)
    for bundle in bundles:
        assert calls_of(bundle, outputs[bundle.model_id]).unclassified.mean() < 0.15, bundle.manifest.variant


@pytest.mark.parametrize(
    ("artefact", "at_least"),
    [("empty field", 0.9), ("out of focus", 0.9), ("dust", 0.9), ("wrong stain", 0.8), ("hardly stained", 0.6)],
)
def test_artefacts_are_left_unclassified(
    bundles: list[Bundle], unseen: tuple[LabelledImage, ...], artefact: str, at_least: float
) -> None:
    spoilt = reader(spoiling(ARTEFACTS[artefact], unseen, Settings()), Settings())
    outputs = predict_all(bundles, unseen, spoilt, Settings(), lambda *_: None)
    for bundle in bundles:
        assert calls_of(bundle, outputs[bundle.model_id]).unclassified.mean() >= at_least, bundle.manifest.variant


def test_an_image_size_that_occurs_in_one_class_does_not_change_the_prediction(
    bundles: list[Bundle], unseen: tuple[LabelledImage, ...]
) -> None:
    def framed(size: tuple[int, int]) -> Callable[[LabelledImage], bytes]:
        """Returns the same image in another size: reflected at the border where too small, cut where too large."""

        def read(image: LabelledImage) -> bytes:
            with Image.open(image.path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            wide = np.pad(pixels, ((10, 10), (10, 10), (0, 0)), "reflect")
            top, left = (wide.shape[0] - size[1]) // 2, (wide.shape[1] - size[0]) // 2
            png = io.BytesIO()
            Image.fromarray(wide[top : top + size[1], left : left + size[0]]).save(png, "PNG", compress_level=1)
            return png.getvalue()

        return read

    outputs = [predict_all(bundles, unseen, framed(size), Settings(), lambda *_: None) for size in LEAKING_SIZES]
    for bundle in bundles:
        first, *others = (output[bundle.model_id].probabilities for output in outputs)
        for other in others:
            assert np.mean(first.argmax(axis=1) == other.argmax(axis=1)) > 0.95, bundle.manifest.variant
            assert np.abs(first - other).mean() < 0.01, bundle.manifest.variant
