"""Images of no class are made of cells, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell.drawing.cells import draw_cell
from bloodcell.training import outliers
from bloodcell.training.outliers import outlier


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(draw_cell("neutrophil", np.random.default_rng(seed)))[:300, :300] for seed in (1, 2))
    return first, second


def test_an_outlier_has_the_size_of_the_cell_and_is_not_the_cell(cells: tuple[np.ndarray, np.ndarray]) -> None:
    for seed in range(40):
        made = outlier(*cells, np.random.default_rng(seed))
        assert made.shape == cells[0].shape and made.dtype == np.uint8
        assert np.abs(made.astype(int) - cells[0]).mean() > 0.5
        assert np.array_equal(made, outlier(*cells, np.random.default_rng(seed)))


def test_a_field_beside_the_cell_has_no_nucleus_in_its_middle(cells: tuple[np.ndarray, np.ndarray]) -> None:
    middle = slice(130, 170)
    darkest = cells[0][middle, middle, 0].min()
    for seed in range(20):
        beside = outliers._beside(cells[0], np.random.default_rng(seed))
        assert beside[middle, middle, 0].min() > darkest + 20


def test_a_broken_cell_has_the_same_pixels_in_another_order(cells: tuple[np.ndarray, np.ndarray]) -> None:
    for seed in range(20):
        broken = outliers._broken(cells[0], np.random.default_rng(seed))
        assert not np.array_equal(broken, cells[0])
        assert np.array_equal(np.sort(broken.reshape(-1, 3), axis=0), np.sort(cells[0].reshape(-1, 3), axis=0))


@pytest.mark.parametrize("side_px", [32, 40, 180, 300])
def test_outliers_are_made_of_images_of_every_size(side_px: int) -> None:
    cell = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), np.uint8)
    for seed in range(40):
        assert outlier(cell, np.rot90(cell), np.random.default_rng(seed)).shape == cell.shape
