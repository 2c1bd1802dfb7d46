"""The shipped models on images they have not seen: drawn cells are called right, and an image's size says nothing."""

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

PER_GROUP = 4
LEAKING_SIZES = ((360, 360), (360, 363), (366, 369))
"""Widths and heights that each occur in some classes of the images only: a model could learn them by heart."""


@pytest.fixture(scope="module")
def bundles() -> list[Bundle]:
    return shipped_bundles()


@pytest.fixture(scope="module")
def unseen(shared: Path, bundles: list[Bundle]) -> tuple[LabelledImage, ...]:
    """A few real images of every group that no shipped model was trained or validated with."""
    return a_few(unseen_by(bundles, read_image_folders(Settings(), shared / "pbc").images), PER_GROUP)


def test_they_are_what_the_recipes_make_so_that_retraining_can_go_on_from_them(bundles: list[Bundle]) -> None:
    assert [bundle.manifest.recipe for bundle in bundles] == [
        DEFAULT_RECIPES[bundle.manifest.variant] for bundle in bundles
    ]


def test_drawn_cells_of_another_seed_are_called_right(bundles: list[Bundle], tmp_path: Path) -> None:
    draw_folder(tmp_path / "drawn", cells_per_class=12, seed=5)
    found = evaluate_bundles(tmp_path / "drawn", bundles, Settings(data_dir=tmp_path))
    for one in found.values():
        assert one.n_seen == 0
        assert one.evaluation.accuracy.value is not None
        assert one.evaluation.accuracy.value >= 0.95, one.variant


def test_cells_like_those_it_learnt_from_stay_called(bundles: list[Bundle], unseen: tuple[LabelledImage, ...]) -> None:
    answers = predict_all(bundles, unseen, read_file, Settings(), lambda *_: None)
    for bundle in bundles:
        assert calls_of(bundle, answers[bundle.model_id]).unclassified.mean() < 0.15, bundle.manifest.variant


@pytest.mark.parametrize(
    ("artefact", "at_least"),
    [("empty field", 0.9), ("out of focus", 0.9), ("dust", 0.9), ("wrong stain", 0.8), ("hardly stained", 0.6)],
)
def test_what_is_no_good_cell_is_left_unclassified(
    bundles: list[Bundle], unseen: tuple[LabelledImage, ...], artefact: str, at_least: float
) -> None:
    spoilt = reader(spoiling(ARTEFACTS[artefact], unseen, Settings()), Settings())
    answers = predict_all(bundles, unseen, spoilt, Settings(), lambda *_: None)
    for bundle in bundles:
        assert calls_of(bundle, answers[bundle.model_id]).unclassified.mean() >= at_least, bundle.manifest.variant


def test_the_same_cell_in_a_size_that_leaks_its_class_is_the_same_cell(
    bundles: list[Bundle], unseen: tuple[LabelledImage, ...]
) -> None:
    def framed(size: tuple[int, int]) -> Callable[[LabelledImage], bytes]:
        """The same pixels in another frame: what is missing at the rim is mirrored, what is too much cut off."""

        def read(image: LabelledImage) -> bytes:
            with Image.open(image.path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            wide = np.pad(pixels, ((10, 10), (10, 10), (0, 0)), "reflect")
            top, left = (wide.shape[0] - size[1]) // 2, (wide.shape[1] - size[0]) // 2
            png = io.BytesIO()
            Image.fromarray(wide[top : top + size[1], left : left + size[0]]).save(png, "PNG", compress_level=1)
            return png.getvalue()

        return read

    answers = [predict_all(bundles, unseen, framed(size), Settings(), lambda *_: None) for size in LEAKING_SIZES]
    for bundle in bundles:
        first, *others = (answer[bundle.model_id].probabilities for answer in answers)
        for other in others:
            assert np.mean(first.argmax(axis=1) == other.argmax(axis=1)) > 0.95, bundle.manifest.variant
            assert np.abs(first - other).mean() < 0.01, bundle.manifest.variant
