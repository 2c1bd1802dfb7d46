"""Small coloured cells, and one bundle of each kind trained on them with random base weights."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.recipes import Augmentation, Recipe, SvmSearch, Tuning
from bloodcell.settings import Settings
from bloodcell.training.base_networks import build_base
from bloodcell.training.bundle_training import train

SIDE_PX = 32
SVM_RECIPE = Recipe(SIDE_PX, ("block2_pool",), svm=SvmSearch(gammas=(0.25,), costs=(1.0, 10.0), folds=3))
TUNED_RECIPE = Recipe(
    SIDE_PX,
    ("block2_pool", "block3_pool"),
    embedding_layers=("block1_pool",),
    tuning=Tuning(cut_layer="block2_pool", transforms=2, head_epochs=6, deep_epochs=3, batch_cells=16),
)
PIXELS_RECIPE = Recipe(
    40,
    ("block2_pool", "block3_pool"),
    crop_px=SIDE_PX,
    tuning=Tuning(
        cut_layer="pixels",
        transforms=1,
        head_epochs=8,
        deep_epochs=8,  # the first of them only learn what no cell is
        patience=8,
        batch_cells=8,
        augmentation=Augmentation(),
        warm_up=0.2,
        label_smoothing=0.05,
        average_momentum=0.5,
        precision="float32",  # most processors only imitate bfloat16, ten times slower
        outlier_share=0.1,
        mild_share=0.5,
    ),
    standardises_colour=True,
)


def draw(cell_class: str, rng: np.random.Generator) -> Image.Image:
    """Returns a disc on a noisy background, whose colour and size depend on the class: 40x41 px."""
    number = CELL_CLASSES.index(cell_class)
    y, x = np.mgrid[:41, :40]
    inside = (x - 20 + rng.normal(0, 2)) ** 2 + (y - 20 + rng.normal(0, 2)) ** 2 < (8 + number) ** 2
    pixels = np.full((41, 40, 3), 220.0)
    pixels[inside] = (60 + 20 * number, 40 + 150 * (number % 2), 200 - 50 * (number // 3))
    return Image.fromarray(np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8))


def make_cells(folder: Path, n_each: int, seed: int = 0) -> Path:
    """Writes FOLDER/<class>/*.png with `n_each` cells of each class."""
    for number, cell_class in enumerate(CELL_CLASSES):
        (folder / cell_class).mkdir(parents=True)
        for each in range(n_each):
            draw(cell_class, np.random.default_rng((seed, number, each))).save(folder / cell_class / f"{each}.png")
    return folder


@functools.cache
def random_weights(base: str = "vgg16", seed: int = 0) -> Path:
    """Returns a file of random weights for a base network; it is removed when the process ends.

    Source: He et al. 2015, arXiv:1502.01852: a variance of 2 / fan-in keeps the scale of rectified maps through the
    depth.
    """
    network, random = build_base(base, 96), np.random.default_rng(seed)
    for layer in network.layers:
        if hasattr(layer, "kernel"):
            shape = layer.kernel.shape
            layer.kernel.assign(random.normal(0.0, np.sqrt(2.0 / np.prod(shape[:-1])), shape).astype(np.float32))
    folder = Path(tempfile.mkdtemp(prefix="random-weights-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / f"{base}-{seed}.weights.h5"
    network.save_weights(path)
    return path


def model_settings(data_dir: Path, weights_dir: Path | None = None) -> Settings:
    return Settings(data_dir=data_dir, weights_dir=weights_dir, batch_cells=16, reader_threads=2)


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cells(tmp_path_factory.mktemp("images") / "cells", 12)


@pytest.fixture(scope="session")
def trained_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder that the session's bundles are trained in."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def pixels_bundle(cells: Path, trained_in: Path) -> Bundle:
    """Fine-tuned from the pixels up."""
    return train("vgg16", cells, model_settings(trained_in), recipe=PIXELS_RECIPE, base=random_weights())


@pytest.fixture(scope="session")
def svm_bundle(cells: Path, trained_in: Path) -> Bundle:
    return train("vgg16_svm", cells, model_settings(trained_in), recipe=SVM_RECIPE, base=random_weights())


@pytest.fixture(scope="session")
def tuned_bundle(cells: Path, trained_in: Path) -> Bundle:
    return train("vgg16", cells, model_settings(trained_in), recipe=TUNED_RECIPE, base=random_weights())


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """uint8 (24, 32, 32, 3): cells that no bundle was trained on, three of each class."""
    rng = np.random.default_rng(99)
    drawn = [draw(cell_class, rng).resize((SIDE_PX, SIDE_PX)) for cell_class in CELL_CLASSES for _ in range(3)]
    return np.stack([np.asarray(image) for image in drawn])
