"""The diameter of red cells in pixels, from which the scale of a laboratory's images follows.

Every field has red cells beside the cell in the middle, and healthy ones differ little between people: 7.2 um on a dry
smear. Their diameter in pixels says how many pixels of the image are one micrometre, whatever camera took it.
Source: Turgeon, Clinical Hematology, 6th ed. 2017 (6.8 to 7.5 um).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAINING_DIAMETER_PX: Final = 66.4
"""Diameter that `typical_diameter_px` finds in the training images, of 360 px.

The largest disc in a red cell is measured, which is smaller than the cell that an eye sees (73 px) because red cells
are not round. Only the ratio of two such diameters is used.
"""

MIN_CELLS: Final = 30
"""Red cells without which no scale is estimated: the diameter of 30 has a standard error of 2 %."""

_WORKING_PX: Final = 256  # longer side at which cells are searched: 12 ms per image
_NUCLEUS_SHARE: Final = 0.5  # of a nucleus' optical density; red cells have less
_MIN_RADIUS_PX: Final = 4.0
_RIM: Final = 1.35  # radii around a cell of which most is background if it is free of others
_FREE: Final = 0.75
_BANDWIDTH: Final = 0.06  # of the logarithm of the diameter
_DIAMETERS_PX: Final = np.geomspace(10.0, 600.0, 800)


def red_cell_diameters_px(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the diameters of the red cells of one image that touch neither its border nor another cell.

    Args:
        pixels: uint8 (height, width, 3), RGB.

    Returns:
        float64 (n,), in pixels of the image; n may be 0.
    """
    from scipy import ndimage

    factor = _WORKING_PX / max(pixels.shape[:2])
    density = _green_density(pixels, factor)
    nucleus = float(np.percentile(density, 99))
    absorbing = ndimage.binary_fill_holes(density > _otsu(density[density < _NUCLEUS_SHARE * nucleus]))
    absorbing = ndimage.binary_opening(absorbing, iterations=2)
    depth = ndimage.distance_transform_edt(np.pad(absorbing, 1, mode="edge"))[1:-1, 1:-1]
    peaks = np.argwhere((ndimage.maximum_filter(depth, size=9) == depth) & (depth > _MIN_RADIUS_PX))
    rows, columns = np.ogrid[: depth.shape[0], : depth.shape[1]]
    found = []
    for row, column in peaks:
        radius = depth[row, column]
        if min(row, column, depth.shape[0] - 1 - row, depth.shape[1] - 1 - column) < radius:
            continue
        squares = (rows - row) ** 2 + (columns - column) ** 2
        has_nucleus = np.percentile(density[squares < (0.8 * radius) ** 2], 90) > _NUCLEUS_SHARE * 1.1 * nucleus
        if not has_nucleus and absorbing[squares < (_RIM * radius) ** 2].mean() < _FREE:
            found.append(2 * radius / factor)
    return np.array(found)


def typical_diameter_px(diameters_px: NDArray[np.float64]) -> float | None:
    """Returns the most frequent diameter; None with fewer than `MIN_CELLS`.

    Pieces of cells, and cells that lie on each other, have other diameters, which differ among themselves.
    """
    if len(diameters_px) < MIN_CELLS:
        return None
    distances = (np.log(_DIAMETERS_PX)[:, None] - np.log(diameters_px)) / _BANDWIDTH
    return float(_DIAMETERS_PX[np.exp(-0.5 * distances**2).sum(axis=1).argmax()])


def _green_density(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.float32]:
    """Returns the optical density of green, relative to the empty field, at the working size."""
    from scipy import ndimage

    size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
    scaled = Image.fromarray(pixels).resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR)
    green = ndimage.gaussian_filter(np.asarray(scaled)[..., 1].astype(np.float32), 1)
    return np.asarray(-np.log(np.maximum(green, 1) / max(float(np.percentile(green, 90)), 1.0)), np.float32)


def _otsu(values: NDArray[np.floating]) -> float:
    """Returns the threshold that splits values into two groups with the largest variance between them.

    Source: Otsu 1979, IEEE Transactions on Systems, Man, and Cybernetics 9:62.
    """
    if not len(values):
        return 0.0
    counts, edges = np.histogram(values, 128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    moment = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (moment[-1] * below / below[-1] - moment) ** 2 / (below * (below[-1] - below))
    return float(middles[np.nan_to_num(between).argmax()])
