"""The look of one image: what stain, lamp, camera and export make of it, and not which cell it shows.

All is measured around the middle, where the cell is not, and at one size, so that images of different cells and of
different sizes can be compared.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from PIL import Image

from bloodcell.appearance.red_cells import red_cell_diameters_px
from bloodcell.storage.decoding import ImageBounds, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bloodcell.settings import ImageSettings

Item = TypeVar("Item")

LOOK: Final = (
    "red of the empty field", "green of the empty field", "blue of the empty field",
    "red of the red cells", "green of the red cells", "blue of the red cells",
    "sharpness", "grain", "diameter of red cells",
)  # fmt: skip
"""Names of the figures; levels in 0..255, sharpness and grain as logarithms, the diameter as a share of the image."""

_SIDE_PX: Final = 180
_MIDDLE: Final = 0.5  # side of the square that is the cell's, as a share of the image's
_EMPTY: Final = 0.85  # the field is empty where green is above this quantile
_MIN_DIAMETERS: Final = 2


def look_of(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the look of an image: float64 (9,), in the order of `LOOK`.

    The diameter of red cells is nan if fewer than two stand free in the image.

    Args:
        pixels: uint8 (height, width, 3), RGB.
    """
    small = np.asarray(Image.fromarray(pixels).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX), np.float32)
    is_around = np.ones((_SIDE_PX, _SIDE_PX), bool)
    margin = round(_SIDE_PX * (1 - _MIDDLE) / 2)
    is_around[margin:-margin, margin:-margin] = False
    around = small[is_around]
    green = around[:, 1]
    bright, dark = np.quantile(green, (_EMPTY, 0.05))
    empty = np.median(around[green >= bright], axis=0)
    halfway = (bright + dark) / 2
    absorbing = around[green < halfway]
    red_cells = np.median(absorbing, axis=0) if len(absorbing) else empty
    contrast = max(float(bright - dark), 1.0)
    steepest, grain = _edges(pixels, is_around)
    diameters = red_cell_diameters_px(pixels)
    diameter = np.log(np.median(diameters) / min(pixels.shape[:2])) if len(diameters) >= _MIN_DIAMETERS else np.nan
    return np.array([*empty, *red_cells, np.log(steepest / contrast), np.log(grain / contrast), diameter])


def _edges(pixels: NDArray[np.uint8], is_around: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns the steepness of the steepest edges and the typical noise of green, in levels per pixel of one size."""
    green = np.asarray(
        Image.fromarray(pixels[..., 1]).resize((2 * _SIDE_PX, 2 * _SIDE_PX), Image.Resampling.BILINEAR), np.float32
    )
    down, across = np.diff(green, axis=0)[:, :-1], np.diff(green, axis=1)[:-1]
    steepness = np.hypot(down, across)[is_around.repeat(2, 0).repeat(2, 1)[:-1, :-1]]
    return float(np.quantile(steepness, 0.99)) + 0.1, float(np.median(steepness)) + 0.1


def looks_of(
    images: Sequence[Item],
    read: Callable[[Item], bytes],
    settings: ImageSettings,
    on_image: Callable[[int, int], None],
) -> NDArray[np.float64]:
    """Returns the looks of images, in their order: float64 (n, 9).

    Args:
        images: Any number of images that `read` can read.
        read: Returns an image's file; called in threads.
        settings: Image bounds and reader threads.
        on_image: Called with the number of images done, and the total.
    """
    bounds, looks = ImageBounds.of(settings), np.empty((len(images), len(LOOK)))
    with ThreadPoolExecutor(settings.reader_threads) as readers:
        found = readers.map(lambda image: look_of(np.asarray(decode(read(image), bounds))), images)
        for number, look in enumerate(found):
            looks[number] = look
            on_image(number + 1, len(images))
    return looks
