"""Images of one scale are accepted, whatever the laboratory, and those of two scales are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.errors import TrainingDataError
from bloodcell.settings import Settings
from bloodcell.site.site_images import SiteImage, SiteImages
from bloodcell.site.site_scale import TRAINING_UM_PER_PX, scale_of

Change = Callable[[Image.Image, int], Image.Image]


def laboratory(shared: Path, source: str) -> SiteImages:
    """Returns images of PBC, or all of another laboratory."""
    if source == "pbc":
        paths = sorted((shared / "pbc").rglob("*.jpg"))[::90]
    else:
        paths = sorted((shared / "external" / source).rglob("*.jpg"))
    images = tuple(SiteImage(path, None, "", f"{number:064}") for number, path in enumerate(paths))
    return SiteImages(images, (), 0, lambda image: image.path.read_bytes())


def changed(images: SiteImages, change: Change) -> SiteImages:
    numbers = {image.sha256: number for number, image in enumerate(images.images)}

    def read(image: LabelledImage) -> bytes:
        body = io.BytesIO()
        with Image.open(image.path) as opened:
            change(opened.convert("RGB"), numbers[image.sha256]).save(body, "PNG")
        return body.getvalue()

    return replace(images, read=read)


def enlarged(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("source", ["pbc", "raabin", "bccd"])
def test_a_real_laboratory_has_one_scale(shared: Path, source: str) -> None:
    found = scale_of(laboratory(shared, source), Settings(), lambda *_: None)
    assert found.red_cell_px == pytest.approx(67, rel=0.06)
    assert found.field_px is None  # all were laid out at the scale of the training


# BCCD's fields show too few whole red cells to tell (41 of 300 images have three)
@pytest.mark.parametrize("source", ["pbc", "raabin"])
@pytest.mark.parametrize("every", [2, 5])
def test_images_of_two_magnifications_are_refused(shared: Path, source: str, every: int) -> None:
    mixed = changed(laboratory(shared, source), lambda image, n: enlarged(image, 1.5) if n % every == 0 else image)
    with pytest.raises(TrainingDataError, match="several scales"):
        scale_of(mixed, Settings(), lambda *_: None)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_objectives_that_differ_by_more_than_red_cells_can_are_refused(shared: Path, factor: float) -> None:
    mixed = changed(laboratory(shared, "pbc"), lambda image, n: enlarged(image, factor) if n % 2 else image)
    with pytest.raises(TrainingDataError, match="several scales"):
        scale_of(mixed, Settings(), lambda *_: None)


def test_crops_of_several_sizes_and_one_scale_are_seen_at_that_scale(shared: Path) -> None:
    def cropped(image: Image.Image, number: int) -> Image.Image:
        margin = 60 if number % 3 == 0 else 0
        return image.crop((margin, margin, image.width - margin, image.height - margin))

    found = scale_of(changed(laboratory(shared, "pbc"), cropped), Settings(), lambda *_: None)
    assert found.field_px == pytest.approx(360, rel=0.08)


def test_a_smaller_field_is_seen_with_its_surroundings_and_a_coarser_one_as_it_is(shared: Path) -> None:
    raabin = laboratory(shared, "raabin")
    coarser = scale_of(changed(raabin, lambda image, n: enlarged(image, 0.7)), Settings(), lambda *_: None)
    assert coarser.red_cell_px == pytest.approx(0.7 * 70, rel=0.08)
    assert coarser.field_px is None  # a pixel shows more, the image shows as much

    def middle(image: Image.Image, number: int) -> Image.Image:
        margins = image.width * 0.15, image.height * 0.15
        return image.crop((margins[0], margins[1], image.width - margins[0], image.height - margins[1]))

    smaller = scale_of(changed(raabin, middle), Settings(), lambda *_: None)
    assert smaller.field_px == pytest.approx(360, rel=0.1)  # as many pixels as before, of which 252 are left


def test_a_given_scale_is_used_and_one_that_the_red_cells_contradict_is_refused(shared: Path) -> None:
    raabin = laboratory(shared, "raabin")
    given = scale_of(raabin, Settings(), lambda *_: None, um_per_px=TRAINING_UM_PER_PX * 0.8)
    assert given.field_px == pytest.approx(450)
    assert scale_of(raabin, Settings(), lambda *_: None, um_per_px=TRAINING_UM_PER_PX).field_px is None
    for factor in (0.6, 1.7):
        with pytest.raises(TrainingDataError, match="does not fit the red cells"):
            scale_of(raabin, Settings(), lambda *_: None, um_per_px=TRAINING_UM_PER_PX * factor)


def test_grey_images_are_refused(shared: Path) -> None:
    grey = changed(laboratory(shared, "raabin"), lambda image, n: image.convert("L").convert("RGB"))
    with pytest.raises(TrainingDataError, match="are grey"):
        scale_of(grey, Settings(), lambda *_: None)
