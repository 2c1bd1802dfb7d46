"""Brings the colours of a field to the range of the training images, whatever the stain, the lamp and the camera.

In CIE L*a*b*, mean and standard deviation of each channel, taken around the cell, are moved to the nearest value within
_RANGE standard deviations of the training images': colours that those images have stay as they are, and others are
moved no further than they have to be. The cell itself does not count: with it, a platelet's field would be stretched
more than that of a cell with a large nucleus, and colours would tell the class (benchmarks/accuracy/ABLATIONS.md).
Source: Reinhard et al. 2001, Color Transfer between Images, IEEE Computer Graphics and Applications 21(5):34 (mean and
standard deviation); IEC 61966-2-1 (sRGB); CIE 15:2004 (L*a*b*, illuminant D65).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.training.svm import dense

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

MEANS: Final = ((83.1, 2.5), (8.7, 1.3), (10.8, 3.4))
"""L*, a* and b* around the cells of 2,000 training images, 250 per class: mean and standard deviation over images."""
DEVIATIONS: Final = ((9.7, 1.8), (4.9, 1.1), (6.1, 2.0))
"""Standard deviation of L*, a* and b* around a cell: mean and standard deviation over the same images."""

COLOURED: Final = "coloured_pixels"
"""Name of the last layer."""

_RANGE: Final = 2.0  # standard deviations: in each figure 95 % of the training images are within
_MIDDLE: Final = 0.5  # side of the square that is the cell's, as a share of the image's
_STEP_PX: Final = 3  # statistics are of every third pixel of every third row, which is enough
_NOISE: Final = 0.25  # added to the variance: an empty field is not stretched without bound

# the straight parts of the curves near black are left out: no pixel of a smear is as dark
_DARKEST: Final = 216 / 24389
_DARKEST_LIGHT: Final = 0.0031308

_TO_XYZ: Final = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE: Final = np.array([0.95047, 1.0, 1.08883])
_TO_LAB: Final = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_LAB_OFFSET: Final = np.array([-16.0, 0.0, 0.0])


def standardised(pixels: Any, middle: keras.layers.Layer) -> Any:
    """Returns the part of the images that a network sees, with colours in the range of the training images.

    Args:
        pixels: Tensor of whole images, uint8 (n, side, side, 3), RGB.
        middle: Layer that cuts out the part that the network sees.

    Returns:
        Tensor float32 (n, height, width, 3), RGB, in 0..255.
    """
    import keras

    field = pixels[:, _STEP_PX // 2 :: _STEP_PX, _STEP_PX // 2 :: _STEP_PX]
    mean, deviation = _around_the_middle(_lab(field, "field"))
    stretch = keras.ops.divide(_in_range(deviation, DEVIATIONS, "deviation"), deviation)
    shift = keras.ops.subtract(_in_range(mean, MEANS, "mean"), keras.ops.multiply(mean, stretch))
    return _rgb(keras.ops.add(keras.ops.multiply(_lab(middle(pixels), "seen"), stretch), shift))


def _in_range(values: Any, training: tuple[tuple[float, float], ...], name: str) -> Any:
    """Returns per channel the nearest value within _RANGE standard deviations of the training images'."""
    import keras

    centre, spread = np.array(training).T
    away = keras.layers.Rescaling(list(1 / spread), list(-centre / spread), name=f"{name}_away", dtype="float32")
    back = keras.layers.Rescaling(list(spread), list(centre), name=f"{name}_in_range", dtype="float32")
    return back(keras.ops.clip(away(values), -_RANGE, _RANGE))


def _around_the_middle(lab: Any) -> tuple[Any, Any]:
    """Returns mean and standard deviation outside of the middle: tensors (n, 1, 1, 3)."""
    import keras

    side = lab.shape[1]
    margin = round(side * (1 - _MIDDLE) / 2)
    share = ((side - 2 * margin) / side) ** 2
    cell = keras.layers.Cropping2D(margin, name="field_middle", dtype="float32")(lab)

    def mean_around(whole: Any, part: Any, name: str) -> Any:
        of_all = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_of_all", dtype="float32")(whole)
        of_middle = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_of_middle", dtype="float32")(part)
        return keras.ops.divide(keras.ops.subtract(of_all, keras.ops.multiply(of_middle, share)), 1.0 - share)

    mean = mean_around(lab, cell, "field_mean")
    square = mean_around(keras.ops.square(lab), keras.ops.square(cell), "field_square")
    variance = keras.ops.maximum(keras.ops.subtract(square, keras.ops.square(mean)), 0.0)
    return mean, keras.ops.sqrt(keras.ops.add(variance, _NOISE))


def _lab(pixels: Any, name: str) -> Any:
    """Returns L*a*b* of sRGB pixels in 0..255."""
    import keras

    # (light + 0.055) / 1.055 of light in 0..1
    light = keras.layers.Rescaling(1 / 255 / 1.055, offset=0.055 / 1.055, name=f"{name}_light", dtype="float32")(pixels)
    ratios = _linear(_TO_XYZ / _WHITE[:, None], np.zeros(3), f"{name}_xyz")(_power(light, 2.4))
    return _linear(_TO_LAB, _LAB_OFFSET, f"{name}_lab")(_power(keras.ops.maximum(ratios, _DARKEST), 1 / 3))


def _rgb(lab: Any) -> Any:
    """Returns sRGB pixels in 0..255 of L*a*b*; colours that sRGB does not have are clipped."""
    import keras

    inverse = np.linalg.inv(_TO_LAB)
    roots = _linear(inverse, -inverse @ _LAB_OFFSET, "coloured_roots")(lab)
    ratios = keras.ops.multiply(keras.ops.square(roots), roots)
    linear = _linear(np.linalg.inv(_TO_XYZ) * _WHITE, np.zeros(3), "coloured_light")(ratios)
    root = _power(keras.ops.clip(linear, _DARKEST_LIGHT, 1.0), 1 / 2.4)
    return keras.layers.Rescaling(255 * 1.055, offset=-255 * 0.055, name=COLOURED, dtype="float32")(root)


def _power(base: Any, exponent: float) -> Any:
    """Returns positive numbers to a power; three times as fast as the operation of that name."""
    import keras

    return keras.ops.exp(keras.ops.multiply(keras.ops.log(base), exponent))


def _linear(matrix: NDArray[np.float64], offset: NDArray[np.float64], name: str) -> Any:
    """Returns a layer that maps each pixel to matrix @ pixel + offset."""
    return dense(matrix.T, offset, name)
