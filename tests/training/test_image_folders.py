from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.errors import TrainingDataError
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_image_folders, require_all_classes, split_images


@pytest.fixture
def copied(cells: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cells, tmp_path / "cells"))


def test_every_image_is_found_once_with_its_class(cells: Path, settings: Settings) -> None:
    folder = read_image_folders(settings, cells)
    assert len(folder.images) == 8 * 12
    assert all(image.path.parent.name == image.cell_class for image in folder.images)
    assert (folder.broken, folder.n_duplicates) == ((), 0)


def test_the_dataset_digest_depends_on_contents_and_labels_not_on_paths(
    copied: Path, cells: Path, settings: Settings
) -> None:
    (copied / "ig" / "0.png").rename(copied / "ig" / "renamed.png")
    assert read_image_folders(settings, copied).digest == read_image_folders(settings, cells).digest
    (copied / "ig" / "1.png").rename(copied / "monocyte" / "relabelled.png")
    assert read_image_folders(settings, copied).digest != read_image_folders(settings, cells).digest


def test_a_broken_image_is_left_out_and_reported(copied: Path, settings: Settings) -> None:
    broken = copied / "basophil" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    folder = read_image_folders(settings, copied)
    assert [each.path for each in folder.broken] == [broken]
    assert len(folder.images) == 8 * 12 - 1


def test_a_copy_in_the_same_class_counts_once(copied: Path, settings: Settings) -> None:
    shutil.copy(copied / "ig" / "0.png", copied / "ig" / "copy.png")
    folder = read_image_folders(settings, copied)
    assert (len(folder.images), folder.n_duplicates) == (8 * 12, 1)


def test_the_same_image_in_two_classes_is_refused(copied: Path, settings: Settings) -> None:
    shutil.copy(copied / "ig" / "0.png", copied / "monocyte" / "copy.png")
    with pytest.raises(TrainingDataError, match=r"in two classes.*ig.0\.png.*copy\.png|in two classes.*copy\.png.*ig"):
        read_image_folders(settings, copied)


def test_an_unknown_class_folder_is_refused_by_name(copied: Path, settings: Settings) -> None:
    (copied / "blast").mkdir()
    with pytest.raises(TrainingDataError, match="'blast'"):
        read_image_folders(settings, copied)


def test_an_empty_class_is_refused_by_name(copied: Path, settings: Settings) -> None:
    shutil.rmtree(copied / "platelet")
    with pytest.raises(TrainingDataError, match="'platelet'"):
        require_all_classes(read_image_folders(settings, copied), copied)


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_images_is_refused(tmp_path: Path, settings: Settings, make: bool) -> None:
    if make:
        (tmp_path / "nothing" / "ig").mkdir(parents=True)
    with pytest.raises(TrainingDataError, match="nothing"):
        read_image_folders(settings, tmp_path / "nothing")


def test_the_split_is_stratified_disjoint_and_repeatable(cells: Path, settings: Settings) -> None:
    images = read_image_folders(settings, cells).images
    training, validation = split_images(images, 0.25)
    assert {image.sha256 for image in training} | {image.sha256 for image in validation} == {i.sha256 for i in images}
    assert [sum(image.cell_class == cell_class for image in validation) for cell_class in CELL_CLASSES] == [3] * 8
    assert len(training) + len(validation) == len(images)
    assert split_images(tuple(reversed(images)), 0.25)[1] == tuple(reversed(validation))


def test_the_first_and_last_digits_do_not_decide_which_images_are_for_validation() -> None:
    """As in a folder from which images were removed by the first digits of their digests, and held out by the last."""
    rng = np.random.default_rng(0)

    def image(begin: str, end: str) -> LabelledImage:
        return LabelledImage(Path("x.jpg"), "ig", begin + rng.bytes(31).hex()[: 64 - len(begin + end)] + end)

    low, high = ([image(digit, digit) for _ in range(500)] for digit in "0f")
    _, validation = split_images((*low, *high), 0.2, classes=("ig",))
    assert 0.15 < np.mean([each in validation for each in low]) < 0.25


def test_a_class_of_one_image_cannot_be_split(cells: Path, settings: Settings) -> None:
    images = read_image_folders(settings, cells).images
    first = next(image for image in images if image.cell_class == "ig")
    with pytest.raises(TrainingDataError, match="'ig'"):
        split_images(tuple(image for image in images if image.cell_class != "ig" or image is first), 0.2)
