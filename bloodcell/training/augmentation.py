"""Random changes of a training image, of the kinds that another smear, stain, lamp or export can cause.

Source: for the stain, the Beer-Lambert law: the optical density -log(light / white) of a pixel is proportional to the
dye in it (Ruifrok and Johnston 2001, Analytical and Quantitative Cytology and Histology 23:291); for changing densities
instead of colours in training, Tellez et al. 2019, Medical Image Analysis 58:101544.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.registry.recipes import Augmentation


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
    is_blurred, is_compressed = random.random(2) < augmentation.degraded_share
    blur_px = random.uniform(0.0, augmentation.blur_px)
    quality = int(random.integers(augmentation.jpeg_quality, 95))
    if is_blurred:
        image = image.filter(ImageFilter.GaussianBlur(blur_px))
    if is_compressed:
        image = compressed(image, quality)
    of_all, *of_each = random.normal(0.0, augmentation.stain, 4)
    light = 1.0 + random.uniform(-augmentation.brightness, augmentation.brightness)
    return stained(np.asarray(image), np.exp(of_all + np.array(of_each) / 2), light)


def stained(pixels: NDArray[np.uint8], density: NDArray[np.floating], light: float) -> NDArray[np.uint8]:
    """Returns an image with each channel's optical density multiplied by `density` (3,), and the light by `light`."""
    levels = np.arange(256) / 255
    tables = np.clip(255 * light * levels[None] ** density[:, None], 0, 255).round().astype(np.uint8)
    return np.stack([tables[channel][pixels[..., channel]] for channel in range(3)], axis=-1)


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
