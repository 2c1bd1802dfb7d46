"""A night of the own laboratory looks alike, one of another laboratory does not, whatever cells they show."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcell.appearance.image_look import LOOK, look_of, looks_of
from bloodcell.appearance.look_reference import (
    LOOKS,
    MAX_IMAGES,
    MIN_IMAGES,
    LookReference,
    compared,
    look_reference,
    read_looks,
)
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.drawing.cells import draw_cell
from bloodcell.errors import BundleError
from bloodcell.registry.bundle import Bundle
from bloodcell.settings import Settings

N_OF_CLASS = 24


@pytest.fixture(scope="module")
def own(shared: Path) -> np.ndarray:
    """The looks of real images, class by class."""
    paths: list[Path] = []
    for each in CELL_CLASSES:
        of_class = sorted((shared / "pbc" / each).glob("*.jpg"))
        paths += of_class[:: len(of_class) // N_OF_CLASS][:N_OF_CLASS]
    return looks_of(paths, Path.read_bytes, Settings(), lambda *_: None)


@pytest.fixture(scope="module")
def reference(own: np.ndarray) -> LookReference:
    found = look_reference(own[::2])
    assert found is not None
    return found


def test_a_night_of_the_own_laboratory_is_alike_even_if_it_has_one_class_only(
    own: np.ndarray, reference: LookReference
) -> None:
    assert compared(reference, own[1::2]).is_alike
    for number in range(len(CELL_CLASSES)):
        of_class = own[number * N_OF_CLASS + 1 : (number + 1) * N_OF_CLASS]
        assert compared(reference, of_class).is_alike, CELL_CLASSES[number]


@pytest.mark.parametrize("source", ["raabin", "bccd"])
def test_every_slide_of_another_laboratory_is_unlike(shared: Path, reference: LookReference, source: str) -> None:
    with (shared / "external" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == source]
    paths = [shared / "external" / row["path"] for row in rows]
    looks = looks_of(paths, Path.read_bytes, Settings(), lambda *_: None)
    slides = np.array([row["slide_or_field"] for row in rows]) if source == "raabin" else np.arange(len(rows)) // 20
    for slide in np.unique(slides):
        found = compared(reference, looks[slides == slide])
        assert found.distance > 2 * found.threshold, slide
        assert found.most_different


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda pixels: pixels * [0.85, 0.9, 1.0], "red of the empty field"),
        (lambda pixels: 255 * (pixels / 255) ** 1.6, "green of the red cells"),
    ],
)
def test_another_lamp_or_stain_is_named(shared: Path, reference: LookReference, change: object, name: str) -> None:
    looks = []
    for each in CELL_CLASSES:
        for path in sorted((shared / "pbc" / each).glob("*.jpg"))[-3:]:
            pixels = np.asarray(Image.open(path).convert("RGB"), np.float64)
            looks.append(look_of(np.clip(change(pixels), 0, 255).astype(np.uint8)))  # type: ignore[operator]
    found = compared(reference, np.stack(looks))
    assert not found.is_alike
    assert name in found.most_different


def test_the_look_does_not_depend_on_the_cell_in_the_middle() -> None:
    cell = draw_cell("lymphocyte", np.random.default_rng(3))
    other = cell.copy()
    other[130:230, 130:230] = draw_cell("platelet", np.random.default_rng(4))[130:230, 130:230]
    np.testing.assert_allclose(look_of(cell)[:-1], look_of(other)[:-1], atol=0.5)


def test_few_images_give_no_reference_and_many_are_cut() -> None:
    looks = np.random.default_rng(0).normal(size=(MAX_IMAGES + 5, len(LOOK)))
    assert look_reference(looks[: MIN_IMAGES - 1]) is None
    found = look_reference(looks)
    assert found is not None
    assert len(found.looks) == MAX_IMAGES


def test_a_trained_bundle_knows_how_its_images_look_and_a_damaged_file_is_refused(svm_bundle: Bundle) -> None:
    found = read_looks(svm_bundle)
    assert found is not None
    assert found.looks.shape[1] == len(LOOK)
    without = replace(
        svm_bundle,
        manifest=replace(svm_bundle.manifest, files={name: "" for name in svm_bundle.manifest.files if name != LOOKS}),
    )
    assert read_looks(without) is None
    body = svm_bundle.read(LOOKS)
    with pytest.raises(BundleError, match="is altered"):
        path = svm_bundle.folder / LOOKS
        try:
            path.write_bytes(body[:-1] + b"x")
            read_looks(svm_bundle)
        finally:
            path.write_bytes(body)
