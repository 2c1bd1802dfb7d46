"""Images that an analyser also takes and that show none of the eight classes, made from real images of cells."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.settings import Settings
from bloodcell.storage.decoding import ImageBounds, decode
from bloodcell.training.image_folders import read_file

Artefact = Callable[[Image.Image, Image.Image, np.random.Generator], Image.Image]
Change = Callable[[LabelledImage, Image.Image], Image.Image]

_CORNER_PX: Final = 128


def _empty(image: Image.Image, _: Image.Image, random: np.random.Generator) -> Image.Image:
    """Returns an empty field: its light, and the camera's noise."""
    pixels = np.asarray(image).astype(float)
    light = np.percentile(pixels.reshape(-1, 3), 95, axis=0)
    slope = np.linspace(-1, 1, pixels.shape[1])[None, :, None] * random.uniform(-4, 4, 3)
    return _image(light + slope + random.normal(0, 1.5, pixels.shape))


def _red_cells(image: Image.Image, _: Image.Image, random: np.random.Generator) -> Image.Image:
    """Returns a corner of the field, mirrored to its whole size: the right scale, without the cell in the middle."""
    pixels = np.rot90(np.asarray(image), int(random.integers(4)))
    corner = pixels[:_CORNER_PX, :_CORNER_PX]
    tile = np.concatenate([corner, corner[:, ::-1]], axis=1)
    tile = np.concatenate([tile, tile[::-1]])
    margin = (360 - len(tile)) // 2
    return Image.fromarray(np.pad(tile, ((margin, margin), (margin, margin), (0, 0)), "reflect"))


def _two_cells(image: Image.Image, other: Image.Image, _: np.random.Generator) -> Image.Image:
    halves = [np.asarray(each.resize((360, 360)))[:, 90:270] for each in (image, other)]
    return Image.fromarray(np.concatenate(halves, axis=1))


def _out_of_focus(image: Image.Image, _: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(random.uniform(9, 14)))


def _dust(image: Image.Image, other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Returns red cells with dark, sharp-edged specks."""
    field = _red_cells(image, other, random)
    draw = ImageDraw.Draw(field)
    for _ in range(random.integers(2, 6)):
        middle, turn = random.uniform(110, 250, 2), np.sort(random.uniform(0, 2 * np.pi, 9))
        reach = random.uniform(10, 45) * random.uniform(0.5, 1, 9)
        corners = middle + np.stack([np.cos(turn), np.sin(turn)], axis=1) * reach[:, None]
        shade = int(random.uniform(10, 60))
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=(shade + 15, shade + 5, shade))
    return field


def _wrong_stain(image: Image.Image, _: Image.Image, random: np.random.Generator) -> Image.Image:
    """Returns the image with exchanged channels: nuclei are green or brown instead of violet."""
    order = ((1, 0, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1))[random.integers(4)]
    return Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., order]))


def _unstained(image: Image.Image, _: Image.Image, __: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image).astype(float)
    light = np.percentile(pixels.reshape(-1, 3), 95, axis=0)
    return _image(light * (np.clip(pixels, 1, None) / light) ** 0.2)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))


ARTEFACTS: Final[dict[str, Artefact]] = {
    "empty field": _empty,
    "red cells only": _red_cells,
    "two cells": _two_cells,
    "out of focus": _out_of_focus,
    "dust": _dust,
    "wrong stain": _wrong_stain,
    "hardly stained": _unstained,
}
"""Name -> function that makes the artefact from one image, another and a generator."""


def spoiling(make: Artefact, images: tuple[LabelledImage, ...], settings: Settings) -> Change:
    """Returns a function that turns each of `images` into an artefact, using another of them if it takes two."""
    bounds = ImageBounds.of(settings)
    others = np.random.default_rng(0).permutation(len(images))
    place = {image.sha256: number for number, image in enumerate(images)}

    def change(image: LabelledImage, cell: Image.Image) -> Image.Image:
        number = place[image.sha256]
        return make(cell, decode(read_file(images[others[number]]), bounds), np.random.default_rng(number))

    return change


def reader(change: Change | None, settings: Settings) -> Callable[[LabelledImage], bytes]:
    """Returns a function that reads an image and returns the changed file."""
    bounds = ImageBounds.of(settings)

    def read(image: LabelledImage) -> bytes:
        body = read_file(image)
        if change is None:
            return body
        png = io.BytesIO()
        change(image, decode(body, bounds)).save(png, "PNG", compress_level=1)
        return png.getvalue()

    return read


def a_few(images: tuple[LabelledImage, ...], n_each: int) -> tuple[LabelledImage, ...]:
    """Returns the first `n_each` images of every class."""
    return tuple(
        image
        for cell_class in CELL_CLASSES
        for image in [each for each in images if each.cell_class == cell_class][:n_each]
    )
