"""What the second stage of a fine-tuning is shown."""

from __future__ import annotations

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.registry.recipes import Augmentation
from bloodcell.training.fine_tuning import AugmentedPixels

STILL = Augmentation(0, 0, 0, 0, 0, 0, 94, 0, 0)
DARK = Augmentation(0, 0, 0, 0, 0, 0, 94, 0, 0, white=0.5)


def shown(mild_share: float, outlier_share: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(0).integers(100, 200, (200, 24, 24, 3), dtype=np.uint8)
    examples = AugmentedPixels(pixels, np.arange(200) % 8, DARK, outlier_share, mild_share, STILL)
    rows, labels = examples.rows(np.arange(200), np.random.default_rng(1))
    return pixels, rows, labels


def brightness_kept(mild_share: float) -> float:
    """Returns the share of images whose empty field is as bright as before."""
    pixels, rows, _ = shown(mild_share)
    before, after = (np.quantile(each.reshape(200, -1), 0.9, axis=1) for each in (pixels, rows))
    return float((np.abs(after - before) <= 2).mean())


def test_a_share_of_the_images_has_only_mild_changes() -> None:
    assert brightness_kept(1.0) == 1.0
    assert brightness_kept(0.0) < 0.1
    assert 0.4 < brightness_kept(0.5) < 0.6


def test_a_share_of_the_images_becomes_images_of_no_class() -> None:
    _, _, labels = shown(0.5, outlier_share=0.25)
    assert 0.15 < (labels == len(CELL_CLASSES)).mean() < 0.35
    _, _, labels = shown(0.5)
    assert (labels == np.arange(200) % 8).all()
