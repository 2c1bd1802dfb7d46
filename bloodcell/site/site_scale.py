"""The scale of a site's images: how much of an image a model has to see for red cells to be as large as it learnt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.appearance.red_cells import TRAINING_DIAMETER_PX, red_cell_diameters_px, typical_diameter_px
from bloodcell.errors import TrainingDataError
from bloodcell.storage.decoding import ImageBounds, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bloodcell.settings import ImageSettings
    from bloodcell.site.site_images import SiteImages

TRAINING_FIELD_PX: Final = 360.0
"""Side of the training images, in their own pixels; red cells in them have `TRAINING_DIAMETER_PX`."""

TRAINING_UM_PER_PX: Final = 7.2 / 73
"""Micrometres per pixel of the training images: red cells measure 73 px there, and 7.2 µm in a dried smear.

Source: Price-Jones 1933, Red Blood Cell Diameters (the mean of healthy people).
"""

MAX_IMAGES: Final = 300
"""Images that are measured, evenly distributed over the site's: about 2,000 red cells."""

SAME_SCALE: Final = 0.08
"""A field that differs from the whole image by less is the whole image: the estimate is no better than 4 %."""

_SEVERAL_SCALES: Final = 1.45
"""Ratio of the 90th to the 10th percentile of the images' own diameters. One scale: 1.20 (PBC), 1.25 (Raabin) and 1.39
(BCCD); with half of the images enlarged by 1.3: 1.46, 1.52 and 1.65."""
_PLAUSIBLE: Final = (0.08, 0.6)
"""Diameters that may be those of red cells, as shares of an image's shorter side: analysers cut out 2 to 8 of them
around a cell (PBC: 0.18). What is smaller is a platelet or dust, even where a crop shows hardly a red cell."""
_RED_CELLS: Final = (0.5, 2.2)
"""Diameters that count in the ratio, in typical diameters: others are of platelets, or of cells that touch."""
_OTHER_SHARE: Final = 0.1
"""Share of the images whose own diameter may be outside that; PBC, Raabin and BCCD have none."""
_MAX_FACTOR: Final = 1.4
"""Between a given scale and the one that red cells show: their mean diameter is 6 to 9 µm in nearly all patients."""
_MIN_OWN: Final = 3  # red cells of an image that count
_GREY_LEVELS: Final = 3.0


@dataclass(frozen=True, slots=True)
class SiteScale:
    """The scale of a site's images.

    Attributes:
        red_cell_px: Diameter of red cells in pixels of the images; None if there are too few of them.
        field_px: Side of the middle of an image that a model has to see, in pixels of the image; None for the whole
            image, because it has the right scale, or because its scale is not known.
        um_per_px: Micrometres per pixel, if they were given.
    """

    red_cell_px: float | None
    field_px: float | None
    um_per_px: float | None = None


def scale_of(
    images: SiteImages,
    settings: ImageSettings,
    on_image: Callable[[int, int], None],
    *,
    um_per_px: float | None = None,
) -> SiteScale:
    """Returns the scale of a site's images, estimated from their red cells unless it is given.

    Args:
        images: The site's images.
        settings: Image bounds and reader threads.
        on_image: Called with the number of images measured, and the total.
        um_per_px: Micrometres per pixel of the images; None: it is estimated.

    Raises:
        TrainingDataError: The images are grey, or of several scales, or their red cells contradict the given scale.
    """
    step = -(-len(images.images) // MAX_IMAGES)
    sample = images.images[::step]
    bounds = ImageBounds.of(settings)
    diameters, sides = [], []
    n_grey = 0
    with ThreadPoolExecutor(settings.reader_threads) as readers:
        for n, (found, side_px, is_grey) in enumerate(
            readers.map(lambda each: _measured(images.read(each.image), bounds), sample), start=1
        ):
            diameters.append(found)
            sides.append(side_px)
            n_grey += is_grey
            on_image(n, len(sample))
    if n_grey > len(sample) / 10:
        raise TrainingDataError(
            f"{n_grey} of {len(sample)} images are grey: expected images of a stained smear in colour. Next: export "
            "colour images."
        )
    typical = typical_diameter_px(np.concatenate(diameters) if diameters else np.empty(0))
    if typical is not None:
        _refuse_several_scales(diameters, typical)
    if um_per_px is not None:
        _refuse_other_scale(um_per_px, typical)
        field_px = TRAINING_FIELD_PX * TRAINING_UM_PER_PX / um_per_px
    elif typical is not None:
        field_px = TRAINING_FIELD_PX * typical / TRAINING_DIAMETER_PX
    else:
        return SiteScale(None, None)
    is_whole = bool((np.abs(field_px / np.quantile(sides, (0.05, 0.95)) - 1) < SAME_SCALE).all())
    return SiteScale(typical, None if is_whole else round(field_px, 1), um_per_px)


def _refuse_other_scale(um_per_px: float, typical: float | None) -> None:
    """Refuses a given scale at which the red cells of the images would be of a size that red cells do not have."""
    if typical is None:
        return
    estimated = TRAINING_UM_PER_PX * TRAINING_DIAMETER_PX / typical
    if not 1 / _MAX_FACTOR < um_per_px / estimated < _MAX_FACTOR:
        raise TrainingDataError(
            f"{um_per_px:g} µm per pixel does not fit the red cells in the images: at {estimated:.3f} µm per pixel "
            "they would be of the usual size. Next: give the scale of these images, or leave it out to have it "
            "estimated."
        )


def _measured(file: bytes, bounds: ImageBounds) -> tuple[NDArray[np.float64], int, bool]:
    """Returns the diameters of the image's red cells, its shorter side in pixels, and whether it is grey."""
    pixels = np.asarray(decode(file, bounds))
    spread = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    side_px, found = min(pixels.shape[:2]), red_cell_diameters_px(pixels)
    least, most = (share * side_px for share in _PLAUSIBLE)
    return found[(found > least) & (found < most)], side_px, float(np.percentile(spread, 99)) < _GREY_LEVELS


def _refuse_several_scales(diameters: list[NDArray[np.float64]], typical: float) -> None:
    """Refuses images whose own red cells differ too much from image to image; images with too few do not count."""
    least, most = (factor * typical for factor in _RED_CELLS)
    of_images = np.array([np.median(found) for found in diameters if len(found) >= _MIN_OWN])
    n_other = int(((of_images < least) | (of_images > most)).sum())
    if n_other > _OTHER_SHARE * max(len(of_images), 20):
        raise TrainingDataError(
            f"The images seem to be of several scales: in {n_other} of {len(of_images)} images that show red cells, "
            f"these are less than half or more than twice as large as usual ({typical:.0f} px). Expected images of one "
            "analyser and one magnification. Next: calibrate each analyser by itself."
        )
    red_cells = (found[(found > least) & (found < most)] for found in diameters)
    own = np.array([np.median(found) for found in red_cells if len(found) >= _MIN_OWN])
    if len(own) < 20:
        return
    low, high = np.quantile(own, (0.1, 0.9))
    if high / low > _SEVERAL_SCALES:
        raise TrainingDataError(
            f"The images seem to be of several scales: red cells of {low:.0f} to {high:.0f} px (typically "
            f"{typical:.0f}). Expected images of one analyser and one magnification. Next: calibrate each analyser by "
            "itself."
        )
