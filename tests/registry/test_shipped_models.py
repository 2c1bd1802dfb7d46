"""The shipped models on unseen images: drawn cells are classified correctly, and an image's size has no effect."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.drawing.drops import draw_folder
from bloodcell.evaluation.bundle_evaluation import evaluate_bundles
from bloodcell.inference.model_output import OUTPUTS, ModelOutput, calls_of
from bloodcell.inference.predicting import predict_all
from bloodcell.registry.bundle import Bundle, unseen_by
from bloodcell.registry.recipes import DEFAULT_RECIPES
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_file, read_image_folders
from tests.artefacts import ARTEFACTS, a_few, reader, spoiling

pytestmark = pytest.mark.slow

PER_CLASS = 3
LEAKING_SIZES = ((360, 360), (366, 369))
"""Widths and heights that occur only in some classes of the data set, so that a model could learn them."""
NOT_TO_BE_CALLED = ("empty field", "out of focus", "dust")
"""Images in which no cell can be seen well: every model has to leave nearly all of them unclassified."""
WRONG_COLOURS = ("wrong stain", "hardly stained")
"""Images of cells in colours that no training image has: a model may call them, and then it has to be right."""

Outputs = dict[str, dict[str, ModelOutput]]


@pytest.fixture(scope="module")
def bundles() -> list[Bundle]:
    return shipped_bundles()


@pytest.fixture(scope="module")
def unseen(shared: Path, bundles: list[Bundle]) -> tuple[LabelledImage, ...]:
    """A few real images of every class that no shipped model was trained or validated on."""
    return a_few(unseen_by(bundles, read_image_folders(Settings(), shared / "pbc").images), PER_CLASS)


@pytest.fixture(scope="module")
def outputs(bundles: list[Bundle], unseen: tuple[LabelledImage, ...]) -> Outputs:
    """Each way to show the unseen images -> model id -> its output; in one pass, because loading takes long."""
    ways: dict[str, Callable[[LabelledImage], bytes]] = {"unchanged": read_file}
    ways |= {f"{width} x {height}": framed((width, height)) for width, height in LEAKING_SIZES}
    ways |= {
        name: reader(spoiling(ARTEFACTS[name], unseen, Settings()), Settings())
        for name in (*NOT_TO_BE_CALLED, *WRONG_COLOURS)
    }
    shown = [(way, image) for way in ways for image in unseen]
    found = predict_all(bundles, shown, lambda each: ways[each[0]](each[1]), Settings())
    places = {way: slice(n * len(unseen), (n + 1) * len(unseen)) for n, way in enumerate(ways)}
    return {
        way: {
            model: ModelOutput(*(getattr(output, name)[place] for name in OUTPUTS)) for model, output in found.items()
        }
        for way, place in places.items()
    }


def framed(size: tuple[int, int]) -> Callable[[LabelledImage], bytes]:
    """Returns a reader of the same image in another size: reflected at the border if too small, cut if too large."""

    def read(image: LabelledImage) -> bytes:
        with Image.open(image.path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        wide = np.pad(pixels, ((10, 10), (10, 10), (0, 0)), "reflect")
        top, left = (wide.shape[0] - size[1]) // 2, (wide.shape[1] - size[0]) // 2
        png = io.BytesIO()
        Image.fromarray(wide[top : top + size[1], left : left + size[0]]).save(png, "PNG", compress_level=1)
        return png.getvalue()

    return read


def test_they_have_the_default_recipes_so_that_a_warm_start_can_use_them(bundles: list[Bundle]) -> None:
    assert [bundle.manifest.recipe for bundle in bundles] == [
        DEFAULT_RECIPES[bundle.manifest.variant] for bundle in bundles
    ]


def test_drawn_cells_of_another_seed_are_classified_correctly(bundles: list[Bundle], tmp_path: Path) -> None:
    draw_folder(tmp_path / "drawn", cells_per_class=6, seed=5)
    found = evaluate_bundles(tmp_path / "drawn", bundles, Settings(data_dir=tmp_path))
    for one in found.values():
        assert one.n_seen == 0
        assert one.evaluation.accuracy.value is not None
        assert one.evaluation.accuracy.value >= 0.95, one.variant


def test_cells_like_the_training_cells_are_classified(bundles: list[Bundle], outputs: Outputs) -> None:
    for bundle in bundles:
        calls = calls_of(bundle, outputs["unchanged"][bundle.model_id])
        assert calls.unclassified.mean() < 0.15, bundle.manifest.variant


@pytest.mark.parametrize("artefact", NOT_TO_BE_CALLED)
def test_artefacts_are_left_unclassified(artefact: str, bundles: list[Bundle], outputs: Outputs) -> None:
    for bundle in bundles:
        calls = calls_of(bundle, outputs[artefact][bundle.model_id])
        assert calls.unclassified.mean() >= 0.9, bundle.manifest.variant


@pytest.mark.parametrize("artefact", WRONG_COLOURS)
def test_cells_in_wrong_colours_are_hardly_ever_called_wrongly(
    artefact: str, bundles: list[Bundle], outputs: Outputs, unseen: tuple[LabelledImage, ...]
) -> None:
    truth = np.array([CELL_CLASSES.index(image.cell_class) for image in unseen])
    for bundle in bundles:
        calls = calls_of(bundle, outputs[artefact][bundle.model_id])
        assert np.mean(~calls.unclassified & (calls.top != truth)) <= 0.1, bundle.manifest.variant


def test_an_image_size_that_occurs_in_one_class_does_not_change_the_prediction(
    bundles: list[Bundle], outputs: Outputs
) -> None:
    for bundle in bundles:
        first, *others = (
            outputs[f"{width} x {height}"][bundle.model_id].probabilities for width, height in LEAKING_SIZES
        )
        for other in others:
            assert np.mean(first.argmax(axis=1) == other.argmax(axis=1)) > 0.95, bundle.manifest.variant
            assert np.abs(first - other).mean() < 0.01, bundle.manifest.variant
