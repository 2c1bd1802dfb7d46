"""The diameter of red cells says at which scale an image was taken, whatever the laboratory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bloodcell.appearance.red_cells import MIN_CELLS, TRAINING_DIAMETER_PX, red_cell_diameters_px, typical_diameter_px
from bloodcell.cells.classes import CELL_CLASSES


def field(diameter_px: int, seed: int, side_px: int = 300) -> np.ndarray:
    """Returns a field of red discs with a pale middle, one large violet cell, and free places between them."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side_px, side_px), (250, 228, 204))
    draw = ImageDraw.Draw(image)
    step = round(diameter_px * 1.6)
    for x in range(step // 2, side_px, step):
        for y in range(step // 2, side_px, step):
            middle = np.array([x, y]) + rng.integers(-3, 4, 2)
            for share, colour in ((1.0, (205, 165, 165)), (0.3, (228, 195, 190))):
                reach = diameter_px / 2 * share
                draw.ellipse([*(middle - reach), *(middle + reach)], fill=colour)
    centre = side_px / 2
    draw.ellipse([centre - 50, centre - 50, centre + 50, centre + 50], fill=(90, 40, 130))
    return np.asarray(image)


@pytest.mark.parametrize("diameter_px", [40, 55, 70])
def test_the_diameter_of_drawn_red_cells_is_found(diameter_px: int) -> None:
    found = np.concatenate([red_cell_diameters_px(field(diameter_px, seed)) for seed in range(12)])
    assert typical_diameter_px(found) == pytest.approx(diameter_px, rel=0.08)


def test_few_red_cells_give_no_scale() -> None:
    empty = np.full((100, 120, 3), 230, np.uint8)
    assert len(red_cell_diameters_px(empty)) == 0
    assert typical_diameter_px(np.full(MIN_CELLS - 1, 60.0)) is None


def diameters(paths: list[Path], scale: float = 1.0) -> np.ndarray:
    images = [Image.open(path).convert("RGB") for path in paths]
    scaled = [image.resize((round(image.width * scale), round(image.height * scale))) for image in images]
    return np.concatenate([red_cell_diameters_px(np.asarray(image)) for image in scaled])


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.5])
def test_the_scale_of_real_images_is_found(shared: Path, scale: float) -> None:
    paths = [path for each in CELL_CLASSES for path in sorted((shared / "pbc" / each).glob("*.jpg"))[:10]]
    assert typical_diameter_px(diameters(paths, scale)) == pytest.approx(scale * TRAINING_DIAMETER_PX, rel=0.05)


@pytest.mark.parametrize("source", ["raabin", "bccd"])
def test_the_scale_of_other_laboratories_is_found(shared: Path, source: str) -> None:
    paths = sorted((shared / "external" / source).rglob("*.jpg"))[::3][:80]
    assert typical_diameter_px(diameters(paths)) == pytest.approx(TRAINING_DIAMETER_PX, rel=0.08)
