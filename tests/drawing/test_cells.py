"""Drawn cells have the right format, are reproducible, and the eight classes differ in their looks alone."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.drawing.cells import draw_cell
from bloodcell.storage.decoding import ImageBounds, decode, resized

SIDE_PX = 96
"""Side of the images that the demo's networks see."""


def cells(cell_class: str, n: int, seed: int) -> list[NDArray[np.uint8]]:
    return [draw_cell(cell_class, np.random.default_rng([seed, CELL_CLASSES.index(cell_class), k])) for k in range(n)]


@pytest.mark.parametrize("cell_class", CELL_CLASSES)
def test_a_cell_is_an_rgb_picture_of_the_analysers_size(cell_class: str) -> None:
    picture = draw_cell(cell_class, np.random.default_rng(1))
    assert picture.shape == (363, 360, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("cell_class", CELL_CLASSES)
def test_the_same_seed_draws_the_same_cell_and_another_seed_another(cell_class: str) -> None:
    first, again, other = (draw_cell(cell_class, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_another_size_scales_the_whole_field() -> None:
    whole = draw_cell("monocyte", np.random.default_rng(2))
    small = draw_cell("monocyte", np.random.default_rng(2), width_px=SIDE_PX, height_px=SIDE_PX)
    assert small.shape == (SIDE_PX, SIDE_PX, 3)
    scaled = resized(Image.fromarray(whole), SIDE_PX, SIDE_PX)
    assert np.abs(scaled.astype(int) - small).mean() < 4


@pytest.mark.parametrize("cell_class", CELL_CLASSES)
def test_a_saved_cell_passes_the_products_own_decoder(cell_class: str) -> None:
    body = io.BytesIO()
    Image.fromarray(draw_cell(cell_class, np.random.default_rng(3))).save(body, "JPEG")
    bounds = ImageBounds(max_file_bytes=200_000, max_pixels=200_000, min_side_px=32)
    assert decode(body.getvalue(), bounds).size == (360, 363)


@pytest.mark.parametrize("cell_class", CELL_CLASSES)
def test_a_stained_cell_lies_in_the_middle_of_a_pale_field(cell_class: str) -> None:
    for picture in cells(cell_class, 5, seed=4):
        middle, corners = picture[160:204, 160:200, 1], picture[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert np.median(picture[..., 1]) > 150
        assert middle.min() < 110
        assert corners.max() > 180


def test_cells_of_a_class_differ_in_size_stain_and_surroundings() -> None:
    pictures = cells("neutrophil", 12, seed=7)
    n_nuclear_px = [int((picture[..., 1] < 90).sum()) for picture in pictures]
    means = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    assert np.std(n_nuclear_px) > 0.08 * np.mean(n_nuclear_px)
    assert means.std(axis=0).min() > 2


@pytest.mark.slow
def test_the_cell_tells_the_eight_classes_apart_but_its_surroundings_do_not() -> None:
    """A linear model learns 30 drawn cells per class and classifies 20 others, at the size that networks see.

    It gets colour quantiles and edge strengths of rings around the middle. Given the picture's border instead, where
    there are only red cells, it has to stay near the 12.5 % of chance: the surroundings must not give the class away.
    """
    learned = [(cell_class, picture) for cell_class in CELL_CLASSES for picture in small_cells(cell_class, 30, seed=20)]
    asked = [(cell_class, picture) for cell_class in CELL_CLASSES for picture in small_cells(cell_class, 20, seed=21)]
    assert accuracy(learned, asked, rings_px=(0, 7, 13, 19, 25)) >= 0.9
    assert accuracy(learned, asked, rings_px=(38, 48)) <= 0.25


def small_cells(cell_class: str, n: int, seed: int) -> list[NDArray[np.uint8]]:
    return [resized(Image.fromarray(picture), SIDE_PX, SIDE_PX) for picture in cells(cell_class, n, seed)]


def accuracy(
    learned: list[tuple[str, NDArray[np.uint8]]],
    asked: list[tuple[str, NDArray[np.uint8]]],
    rings_px: tuple[int, ...],
) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    model.fit([features(picture, rings_px) for _, picture in learned], [cell_class for cell_class, _ in learned])
    calls = model.predict([features(picture, rings_px) for _, picture in asked])
    return float(np.mean([call == cell_class for call, (cell_class, _) in zip(calls, asked, strict=True)]))


def features(picture: NDArray[np.uint8], rings_px: tuple[int, ...]) -> NDArray[np.float64]:
    """Colour quantiles and mean edge strength of each ring around the middle."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] - (SIDE_PX - 1) / 2
    distance = np.maximum(np.abs(rows), np.abs(columns))
    edges = np.hypot(*np.gradient(picture[..., 1].astype(float)))
    parts: list[float] = []
    for inner, outer in pairwise(rings_px):
        ring = (distance >= inner) & (distance < outer)
        parts += np.quantile(picture[ring], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0).ravel().tolist()
        parts += [float(edges[ring].mean()), float(edges[ring].std())]
    return np.array(parts)
