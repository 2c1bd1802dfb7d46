"""Folders of labelled images, and how their images are split into training and validation.

A folder has the form FOLDER/<class>/*.jpg, with one sub-folder for each of the eight cell classes.
"""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage, digest_of
from bloodcell.errors import TrainingDataError, UnusableFileError
from bloodcell.storage.decoding import ImageBounds, verify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bloodcell.settings import ImageSettings

Result = TypeVar("Result")

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """A file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The usable images of a folder, ordered by digest.

    Attributes:
        images: Each distinct image once.
        broken: Files left out because they cannot be decoded within the bounds of the settings.
        n_duplicates: Files left out because an image with the same digest is already included.
        digest: sha256 over every (sha256, class): the identity of the data set, whatever its paths.
    """

    images: tuple[LabelledImage, ...]
    broken: tuple[BrokenImage, ...]
    n_duplicates: int
    digest: str


def read_image_folders(settings: ImageSettings, *folders: Path) -> ImageFolder:
    """Returns the labelled images under `folders`, each hashed and decoded once.

    Args:
        settings: Image bounds and reader threads.
        folders: Each has one sub-folder per class; hidden files, and files beside the sub-folders, are ignored.

    Raises:
        TrainingDataError: A folder is missing or has no images, no image is usable, a sub-folder is not named after a
            class, or the same image is in two classes.
    """
    files = [each for folder in folders for each in _files(folder)]
    bounds = ImageBounds.of(settings)
    with ThreadPoolExecutor(settings.reader_threads) as readers:
        outcomes = list(readers.map(lambda each: _read(each[0], each[1], bounds), files))
    broken = tuple(each for each in outcomes if isinstance(each, BrokenImage))
    found = [each for each in outcomes if isinstance(each, LabelledImage)]
    images = _distinct(found)
    if not images:
        raise TrainingDataError(f"No usable image in {_listed(folders)}: all {len(broken)} files are broken.")
    return ImageFolder(images, broken, len(found) - len(images), digest_of(images))


def is_held_out(image: LabelledImage, fraction: float) -> bool:
    """Returns whether an image belongs to the share `fraction` of images that is held out from training.

    Only the last twelve digits of its digest decide, so an image's split does not depend on other images. The first
    digits may already have decided which images are in the folder.
    """
    return int(image.sha256[-12:], 16) < fraction * 16**12


def require_all_classes(found: ImageFolder, *folders: Path) -> None:
    """Raises TrainingDataError unless images of all eight classes were read from `folders`."""
    for cell_class in CELL_CLASSES:
        if not any(each.cell_class == cell_class for each in found.images):
            n_broken = sum(each.path.parent.name == cell_class for each in found.broken)
            raise TrainingDataError(
                f"No usable image of class {cell_class!r} in {_listed(folders)}. Expected images of all eight classes; "
                f"received none ({n_broken} broken). Add images to {folders[0] / cell_class}."
            )


def split_images(
    images: tuple[LabelledImage, ...], validation_fraction: float, classes: Sequence[str] = CELL_CLASSES
) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """Returns (training, validation) images: of each class, those with the lowest middle digits are for validation.

    A folder of images names no patients, so the split is by image, and figures on the validation images are too good.
    The middle digits of the digests decide, because the first and the last digits may already have decided which images
    are in the folder.

    Args:
        images: The images to split.
        validation_fraction: Share of each class that is for validation.
        classes: Classes that have to be in both splits.

    Raises:
        TrainingDataError: One of `classes` has fewer than two images.
    """
    validating: set[str] = set()
    for cell_class in classes:
        members = sorted(
            (each.sha256 for each in images if each.cell_class == cell_class), key=lambda sha256: sha256[20:40]
        )
        if len(members) < 2:
            raise TrainingDataError(
                f"Too few images of class {cell_class!r}: expected at least 2, one to train and one to validate; "
                f"received {len(members)}."
            )
        n_validating = min(math.ceil(len(members) * validation_fraction), len(members) - 1)
        validating.update(members[:n_validating])
    training = tuple(each for each in images if each.sha256 not in validating)
    return training, tuple(each for each in images if each.sha256 in validating)


def read_file(image: LabelledImage) -> bytes:
    """Returns the bytes of an image in a folder."""
    return image.path.read_bytes()


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))


def _files(folder: Path) -> list[tuple[Path, str]]:
    if not folder.is_dir():
        raise TrainingDataError(f"No such folder of images: {folder}. Expected FOLDER/<class>/*.jpg.")
    files: list[tuple[Path, str]] = []
    for class_folder in sorted(folder.iterdir()):
        if not class_folder.is_dir() or class_folder.name.startswith("."):
            continue
        if class_folder.name not in CELL_CLASSES:
            raise TrainingDataError(
                f"Unknown class folder in {folder}. Expected one of: {', '.join(CELL_CLASSES)}. "
                f"Received: {class_folder.name!r}."
            )
        files += [
            (path, class_folder.name)
            for path in sorted(class_folder.iterdir())
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
    if not files:
        raise TrainingDataError(f"No images in {folder}. Expected FOLDER/<class>/*.jpg for the eight classes.")
    return files


def _read(path: Path, cell_class: str, bounds: ImageBounds) -> LabelledImage | BrokenImage:
    found = digest_of_usable(path, bounds)
    return found if isinstance(found, BrokenImage) else LabelledImage(path, cell_class, found)


def digest_of_usable(path: Path, bounds: ImageBounds) -> str | BrokenImage:
    """Returns the sha256 of an image file, or why it cannot be used."""
    try:
        body = path.read_bytes()
        verify(body, bounds)
    except OSError as error:
        return BrokenImage(path, f"unreadable: {error.strerror}")
    except UnusableFileError as error:
        return BrokenImage(path, str(error))
    return hashlib.sha256(body).hexdigest()


def _distinct(found: list[LabelledImage]) -> tuple[LabelledImage, ...]:
    first: dict[str, LabelledImage] = {}
    for image in found:
        other = first.setdefault(image.sha256, image)
        if other.cell_class != image.cell_class:
            raise TrainingDataError(
                f"The same image is in two classes: {other.path} and {image.path} have the sha256 {image.sha256}. "
                "Expected one class per image; remove the wrong one."
            )
    return tuple(first[digest] for digest in sorted(first))
