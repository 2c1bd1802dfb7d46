"""Real cell images as another laboratory's stain, lamp, focus, export or framing would show them.

Stain is shifted in hue and saturation, not in the optical density that training varies, so that models are not measured
with the changes that they were trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from bloodcell.training.augmentation import compressed

Shift = Callable[[Image.Image], Image.Image]


def _hue(degrees: float) -> Shift:
    def shifted(image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        turned = (np.asarray(hue).astype(int) + round(degrees / 360 * 256)) % 256
        return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")

    return shifted


def _saturation(factor: float) -> Shift:
    return lambda image: ImageEnhance.Color(image).enhance(factor)


def _brightness(factor: float) -> Shift:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def _blur(sigma_px: float) -> Shift:
    return lambda image: image.filter(ImageFilter.GaussianBlur(sigma_px))


def _jpeg(quality: int) -> Shift:
    return lambda image: compressed(image, quality)


def _offset(share: float) -> Shift:
    def shifted(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image)
        down, right = round(share * pixels.shape[0]), round(share * pixels.shape[1])
        wide = np.pad(pixels, ((0, down), (0, right), (0, 0)), "reflect")
        return Image.fromarray(wide[down:, right:])

    return shifted


def _scaled(side_px: int) -> Shift:
    return lambda image: image.resize((side_px, side_px), Image.Resampling.BICUBIC)


def _cut(side_px: int) -> Shift:
    """Returns a shift to a smaller or larger field with the same optics; beyond the image it is reflected."""

    def shifted(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image)
        margin = max(0, side_px - min(pixels.shape[:2]) + 1) // 2 + 1
        wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "reflect")
        top, left = ((length - side_px) // 2 for length in wide.shape[:2])
        return Image.fromarray(wide[top : top + side_px, left : left + side_px])

    return shifted


SHIFTS: Final[dict[str, dict[str, Shift]]] = {
    "as they are": {"": lambda image: image},
    "hue turned by": {f"{degrees:+d}°": _hue(degrees) for degrees in (-20, -10, 10, 20)},
    "saturation times": {f"{factor:g}": _saturation(factor) for factor in (0.5, 0.75, 1.33, 1.75)},
    "brightness times": {f"{factor:g}": _brightness(factor) for factor in (0.7, 0.85, 1.15)},
    "blurred, sigma": {f"{sigma:g} px": _blur(sigma) for sigma in (1, 2, 3)},
    "JPEG quality": {f"{quality}": _jpeg(quality) for quality in (50, 25, 10)},
    "off centre by": {f"{share:.0%}": _offset(share) for share in (0.05, 0.1)},
    "scaled to": {f"{side} px": _scaled(side) for side in (250, 300, 400)},
    "field of": {f"{side} px": _cut(side) for side in (300, 400)},
}
"""Kind -> strength -> the change of an image of about 360x363 px."""
