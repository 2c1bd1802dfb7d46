"""Random changes of a training image, of the kinds that another smear, stain, lamp or export can cause.

Source: for the stain, the Beer-Lambert law: the optical density -log(light / white) of a pixel is proportional to the
dye in it (Ruifrok and Johnston 2001, Analytical and Quantitative Cytology and Histology 23:291); for changing densities
instead of colours in training, Tellez et al. 2019, Medical Image Analysis 58:101544.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.registry.recipes import Augmentation

_EMPTY_FIELD: Final = 0.9
_WHITES: Final = (90.0, 255.0)
"""Bounds of the empty field's colour, in levels: darker ones are refused by any analyser's own checks."""


def augmented(pixels: NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the image with random changes.

    Args:
        pixels: uint8 (side, side, 3), RGB.
        augmentation: Bounds of the changes.
        random: The only source of randomness; the number of draws is always the same.

    Returns:
        uint8 (side, side, 3), RGB.
    """
    image = Image.fromarray(_moved(pixels, augmentation, random))
    is_blurred, is_compressed, is_sharpened = random.random(3) < (
        augmentation.degraded_share,
        augmentation.degraded_share,
        augmentation.sharpened_share,
    )
    blur_px = random.uniform(0.0, augmentation.blur_px)
    halo_px, strength_percent = random.uniform((0.5, 50.0), (2.5, 250.0))
    quality = int(random.integers(augmentation.jpeg_quality, 95))
    if is_blurred:
        image = image.filter(ImageFilter.GaussianBlur(blur_px))
    elif is_sharpened:
        image = image.filter(ImageFilter.UnsharpMask(halo_px, round(strength_percent), threshold=0))
    if is_compressed:
        image = compressed(image, quality)
    return recoloured(np.asarray(image), _drawn_look(augmentation, random))


@dataclass(frozen=True, slots=True)
class Look:
    """How another stain and camera show the same field.

    Attributes:
        exponent: Exponent of the optical densities: above 1, what absorbs much stands out more.
        density: float (3, 3), by which the densities (red, green, blue) are then multiplied from the right. The
            diagonal is more or less dye, the rest what one channel of another camera sees of the others.
        white: float (3,), factor of the empty field's red, green and blue.
    """

    exponent: float
    density: NDArray[np.floating]
    white: NDArray[np.floating]


def recoloured(pixels: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """Returns an image as another stain and camera show it.

    Densities are relative to the empty field, whose colour is the 90th percentile of each channel.

    Args:
        pixels: uint8 (height, width, 3), RGB.
        look: The other stain and camera.
    """
    empty = np.maximum(np.quantile(pixels[::8, ::8].reshape(-1, 3), _EMPTY_FIELD, axis=0), 1.0)
    levels = -np.log(np.maximum(np.arange(256), 1)[:, None] / empty)
    levels = (np.sign(levels) * np.abs(levels) ** look.exponent).astype(np.float32)
    densities = np.stack([levels[:, channel][pixels[..., channel]] for channel in range(3)], axis=-1)
    white = np.clip(empty * look.white, *_WHITES)
    light = white.astype(np.float32) * np.exp(-densities @ look.density.astype(np.float32))
    return np.asarray(np.clip(light.round(), 0, 255).astype(np.uint8))


def _drawn_look(augmentation: Augmentation, random: np.random.Generator) -> Look:
    dye = random.normal(0.0, augmentation.stain) + random.normal(0.0, augmentation.shade, 3)
    exponent = math.exp(random.normal(0.0, augmentation.contrast))
    seen_by_others = random.normal(0.0, augmentation.mixing, (3, 3))
    light, *of_channels = random.normal(0.0, augmentation.white, 4)
    brightness = 1.0 + random.uniform(-augmentation.brightness, augmentation.brightness)
    density = np.diag(np.exp(dye)) + seen_by_others
    return Look(exponent, density, brightness * np.exp(light + np.array(of_channels)))


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """Returns the image after compression to a JPEG of this quality (1..95)."""
    body = io.BytesIO()
    image.save(body, "JPEG", quality=quality)
    return Image.open(body).convert("RGB")


def _moved(pixels: NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    side_px = len(pixels)
    angle = math.radians(random.uniform(-augmentation.rotation_deg, augmentation.rotation_deg))
    reach = math.log1p(augmentation.zoom)
    step = 1.0 / math.exp(random.uniform(-reach, reach))
    shift_px = random.uniform(-augmentation.shift, augmentation.shift, 2) * side_px
    mirror = 1.0 if random.random() < 0.5 else -1.0
    # the margin is a reflection: the corner of a rotated and reduced image comes from up to 0.34 sides beyond the edge
    margin = side_px // 2
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "reflect")
    # the point in the wide image that (x, y) of the result comes from: (a x + b y + c, d x + e y + f)
    cos, sin, centre = step * math.cos(angle), step * math.sin(angle), side_px / 2
    from_x, from_y = margin + centre + shift_px
    a, b, d, e = mirror * cos, -sin, mirror * sin, cos
    matrix = (a, b, from_x - (a + b) * centre, d, e, from_y - (d + e) * centre)
    moved = Image.fromarray(wide).transform(
        (side_px, side_px), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return np.asarray(moved)
