"""One drawn analyser crop: a stained cell in the middle, red cells around it, camera noise over everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

from bloodcell.drawing.palette import CREAM, RED_CELL_DENSITY, Stain
from bloodcell.drawing.portraits import portrait
from bloodcell.drawing.shapes import cover, outline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.drawing.sheet import Portrait

WIDTH_PX: Final = 360
HEIGHT_PX: Final = 363
"""Size of a crop. Source: most images of Acevedo et al. 2020, Data in Brief 30:105474."""

BYSTANDER_SHARE: Final = 0.3
"""Share of pictures with a platelet among the red cells; the same for all classes, or it would give a class away."""

CRENATED_SHARE: Final = 0.08
"""Share of pictures whose red cells have a crenated border, as in blood that was stored too long."""

SENSOR_NOISE: Final = 3.0
"""Standard deviation of the noise before focusing, in 8-bit steps; focusing reduces it to 1.1.
Source: differences between neighbouring pixels in the flat background of 20 of the same images, 1.1."""


def draw_cell(
    cell_class: str, rng: np.random.Generator, *, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX
) -> NDArray[np.uint8]:
    """Returns a drawn picture of one cell, uint8 (height_px, width_px, 3), RGB.

    Args:
        cell_class: One of `bloodcell.cells.classes.CELL_CLASSES`.
        rng: Source of all variation: the same state gives the same picture.
        width_px: Width of the picture; any value other than 360 scales the whole field.
        height_px: Height of the picture; any value other than 363 scales the whole field.

    Raises:
        KeyError: `cell_class` is not one of the eight.
    """
    stain = Stain.drawn(rng)
    cell = portrait(cell_class, rng, stain)
    middle = (WIDTH_PX / 2 + rng.normal(0, 4), HEIGHT_PX / 2 + rng.normal(0, 4))
    field = _smear(rng, stain, _red_cell_places(rng, middle, cell.radius_px))
    if rng.random() < BYSTANDER_SHARE:
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(135, 165)
        _lay(
            field, portrait("platelet", rng, stain), (middle[0] + far * np.cos(angle), middle[1] + far * np.sin(angle))
        )
    _lay(field, cell, middle)
    return _photographed(field, rng, (width_px, height_px))


def _red_cell_places(
    rng: np.random.Generator, middle: tuple[float, float], clear_px: float
) -> list[tuple[float, float, float]]:
    """Middle (x, y) and radius of the red cells around the cell, which sometimes touch or overlap."""
    usual = rng.uniform(27, 34)
    closeness = rng.uniform(1.45, 2.15)  # smallest distance between two middles, in radii; below 2 they overlap
    x, y = rng.uniform(-25, WIDTH_PX + 25, 110), rng.uniform(-25, HEIGHT_PX + 25, 110)
    radii = usual * rng.normal(1, 0.07, x.size)
    taken = np.hypot(x - middle[0], y - middle[1]) < clear_px + radii * 0.93
    too_close = np.hypot(x[:, None] - x, y[:, None] - y) < closeness * usual
    places = []
    for i in range(x.size):
        if not taken[i]:
            places.append((float(x[i]), float(y[i]), float(radii[i])))
            taken |= too_close[i]
    return places


def _smear(rng: np.random.Generator, stain: Stain, places: list[tuple[float, float, float]]) -> NDArray[np.float32]:
    """The background with its red cells, float32 (3, 363, 360), 0 to 255; densities add where two overlap."""
    # Red cells have soft borders and no detail, so half the resolution is enough and costs a quarter.
    half = np.zeros((HEIGHT_PX // 2 + 1, WIDTH_PX // 2), np.float32)
    pallor = rng.uniform(0.3, 0.9)  # how pale the centres are: thin and thick parts of a smear differ
    crenated = rng.random() < CRENATED_SHARE
    for cx, cy, radius in places:
        reach = radius * 1.25
        x0, x1 = max(0, int((cx - reach) / 2)), min(half.shape[1], int((cx + reach) / 2))
        y0, y1 = max(0, int((cy - reach) / 2)), min(half.shape[0], int((cy + reach) / 2))
        x = np.arange(x0, x1, dtype=np.float32) * 2 + np.float32(0.5 - cx)
        y = np.arange(y0, y1, dtype=np.float32)[:, None] * 2 + np.float32(0.5 - cy)
        inside = outline(rng, x, y, radius, 0.045, 0.06 if crenated else 0.0)
        depth = np.clip(inside / np.float32(radius) - np.float32(rng.uniform(0.1, 0.3)), 0, None)
        dip = np.clip(depth / np.float32(rng.uniform(0.45, 0.6)), 0, 1)
        dip *= dip * (3 - 2 * dip) * np.float32(pallor * rng.uniform(0.8, 1.1))
        half[y0:y1, x0:x1] += cover(inside, 3) * (1 - dip) * np.float32(rng.normal(1, 0.07))
    whole = Image.fromarray(half).resize((WIDTH_PX, half.shape[0] * 2), Image.Resampling.BICUBIC)
    density = np.asarray(whole)[:HEIGHT_PX]

    slope_x, slope_y = rng.normal(0, 0.015, 2).astype(np.float32)
    light = 1 + slope_x * np.linspace(-1, 1, WIDTH_PX, dtype=np.float32)
    light = light * (1 + slope_y * np.linspace(-1, 1, HEIGHT_PX, dtype=np.float32)[:, None])
    ink = stain.strength * np.array(RED_CELL_DENSITY, np.float32)
    field = density * -ink[:, None, None]
    np.exp(field, out=field)
    field *= light
    field *= stain.of(CREAM)
    return field


def _lay(field: NDArray[np.float32], cell: Portrait, middle: tuple[float, float]) -> None:
    """Lays a portrait over the field and drops what falls outside the picture."""
    half = cell.layers.shape[1] // 2
    left, top = round(middle[0]) - half, round(middle[1]) - half
    x0, x1 = max(0, left), min(WIDTH_PX, left + 2 * half + 1)
    y0, y1 = max(0, top), min(HEIGHT_PX, top + 2 * half + 1)
    layers = cell.layers[:, y0 - top : y1 - top, x0 - left : x1 - left]
    window = field[:, y0:y1, x0:x1]
    window *= 1 - layers[3]
    window += layers[:3]


def _photographed(field: NDArray[np.float32], rng: np.random.Generator, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """The field as the camera records it, uint8 (height, width, 3), with noise and focus."""
    # Uniform noise with that deviation costs a quarter of normal noise, and focusing makes it normal enough.
    field += (rng.random(field.shape[1:], dtype=np.float32) - np.float32(0.5)) * np.float32(SENSOR_NOISE * np.sqrt(12))
    planes = np.clip(field, 0, 255, out=field).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    near = np.exp(-0.5 / rng.uniform(0.55, 0.95) ** 2)  # a Gaussian's weight one pixel from its middle
    picture = picture.filter(ImageFilter.Kernel((3, 3), np.outer([near, 1, near], [near, 1, near]).ravel().tolist()))
    if picture.size != size_px:
        picture = picture.resize(size_px, Image.Resampling.BILINEAR)
    return np.array(picture)
