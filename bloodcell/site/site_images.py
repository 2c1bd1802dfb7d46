"""A laboratory's images, some of them with a label, by slide.

    FOLDER/<class or code>/<slide>/*.jpg      labelled; as `bloodcell labels import` reads it
    FOLDER/unlabelled/<slide>/*.jpg           any number of others
    a CSV file with the columns path, class and slide; paths are relative to the file, an empty class is no label

Cells of one slide look alike, so what is measured on slides that were also learnt from is too good. An image whose
slide is not known counts as one of a single slide.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.label_meanings import MEANINGS
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.errors import TrainingDataError
from bloodcell.registry.bundle import CODE_PATTERN
from bloodcell.storage.decoding import ImageBounds
from bloodcell.training.image_folders import SUFFIXES, BrokenImage, digest_of_usable, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bloodcell.settings import ImageSettings

UNLABELLED: Final = "unlabelled"
OUT_OF_SCOPE: Final = "out_of_scope:"
"""Prefix of a label that is neither a class nor one of the analyser's codes: `out_of_scope:red_cells`."""

_COLUMNS: Final = ("path", "class", "slide")
_SLIDE_COLUMNS: Final = ("slide", "slide_or_field")


@dataclass(frozen=True, slots=True)
class SiteImage:
    """An image of a laboratory.

    Attributes:
        path: Where the file is; for an image in the store, its name.
        label: A cell class, or the code of a cell out of scope; None: nobody has labelled it.
        slide: Its slide; empty if it is not known.
        sha256: Digest of the file.
    """

    path: Path
    label: str | None
    slide: str
    sha256: str

    @property
    def class_number(self) -> int | None:
        """Index of the label in `CELL_CLASSES`; None for a code, and without a label."""
        return CELL_CLASSES.index(self.label) if self.label in CELL_CLASSES else None

    @property
    def image(self) -> LabelledImage:
        """The image for the loops that read images."""
        return LabelledImage(self.path, self.label or "", self.sha256)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class SiteImages:
    """A laboratory's images, each once, ordered by digest.

    Attributes:
        images: The usable ones.
        broken: Files that cannot be used, and why.
        n_duplicates: Files left out because the same image is there already.
        read: Returns an image's file.
    """

    images: tuple[SiteImage, ...]
    broken: tuple[BrokenImage, ...]
    n_duplicates: int
    read: Callable[[LabelledImage], bytes]

    @property
    def labelled(self) -> tuple[SiteImage, ...]:
        """Images that show one of the eight classes by their label."""
        return tuple(image for image in self.images if image.label in CELL_CLASSES)

    @property
    def out_of_scope(self) -> tuple[SiteImage, ...]:
        """Images whose label is a code outside of the eight classes."""
        return tuple(image for image in self.images if image.label is not None and image.label not in CELL_CLASSES)

    @property
    def unlabelled(self) -> tuple[SiteImage, ...]:
        """Images without a label."""
        return tuple(image for image in self.images if image.label is None)

    @property
    def digest(self) -> str:
        """Identity of the images with their labels and slides."""
        rows = "".join(f"{each.sha256} {each.label or ''} {each.slide}\n" for each in self.images)
        return hashlib.sha256(rows.encode()).hexdigest()

    def counts(self) -> Counter[str]:
        """Returns label -> images, without those that have no label."""
        return Counter(image.label for image in self.images if image.label is not None)


def read_site_images(settings: ImageSettings, folder: Path, table: Path | None = None) -> SiteImages:
    """Returns the images of a laboratory, each hashed and decoded once.

    Args:
        settings: Image bounds and reader threads.
        folder: Folder of the images.
        table: CSV file that names label and slide of the images in `folder`; None: the folders' names do.

    Raises:
        TrainingDataError: The folder or the table is missing or empty, a label is unknown, a file of the table is
            missing, or one image has two labels.
    """
    if not folder.is_dir():
        raise TrainingDataError(f"No such folder of images: {folder}. Next: give the folder that holds them.")
    files = list(_of_table(table, folder) if table else _of_folders(folder))
    if not files:
        raise TrainingDataError(
            f"No images in {table or folder}. Expected FOLDER/<class or code>/<slide>/*.jpg, or a CSV file with the "
            f"columns {', '.join(_COLUMNS)} whose paths are in {folder}."
        )
    bounds = ImageBounds.of(settings)
    with ThreadPoolExecutor(settings.reader_threads) as readers:
        read = list(readers.map(lambda file: _read(file[0], file[1], file[2], bounds), files))
    broken = tuple(each for each in read if isinstance(each, BrokenImage))
    found = [each for each in read if isinstance(each, SiteImage)]
    images = _distinct(found)
    if not images:
        raise TrainingDataError(
            f"No usable image in {folder}: all {len(broken)} files are broken. First: {broken[0].reason}"
        )
    return SiteImages(images, broken, len(found) - len(images), read_file)


def _of_folders(folder: Path) -> Iterator[tuple[Path, str | None, str]]:
    for named in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        label = None if named.name == UNLABELLED else _label(named.name, str(named))
        for path in sorted(named.rglob("*")):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                inner = path.relative_to(named).parts
                yield path, label, inner[0] if len(inner) > 1 else ""


def _of_table(table: Path, folder: Path) -> Iterator[tuple[Path, str | None, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"The table {table} cannot be read: {error}. Next: save it as CSV in UTF-8.") from error
    columns = set(rows[0]) if rows else set()
    slide_column = next((name for name in _SLIDE_COLUMNS if name in columns), None)
    if not {"path", "class"} <= columns or slide_column is None:
        received = ", ".join(sorted(map(str, columns))) or "no row"
        raise TrainingDataError(f"{table}: expected the columns {', '.join(_COLUMNS)}, received {received}.")
    for number, row in enumerate(rows, start=2):
        path = table.parent / (row["path"] or "")
        if not path.resolve().is_relative_to(folder.resolve()):
            continue
        if not path.is_file():
            raise TrainingDataError(f"{table}, line {number}: there is no file {path}.")
        name = (row["class"] or "").strip()
        label = _label(name, f"{table}, line {number}") if name and name != UNLABELLED else None
        yield path, label, (row[slide_column] or "").strip()


def _label(name: str, where: str) -> str:
    """Returns the class or code that a name means."""
    if name.lower().startswith(OUT_OF_SCOPE):
        return _code(name[len(OUT_OF_SCOPE) :].strip(), where)
    meaning = MEANINGS.get(name.lower())
    if meaning is None:
        raise TrainingDataError(
            f"{where}: unknown class. Expected one of {', '.join(CELL_CLASSES)}, a code (SNE, BNE, LY, MMY, BL ...), "
            f"{OUT_OF_SCOPE}<name>, or {UNLABELLED}. Received: {name!r}."
        )
    return meaning.cell_class or meaning.label


def _code(name: str, where: str) -> str:
    """Returns the code that a name stands for, which a person says is out of scope."""
    meaning = MEANINGS.get(name.lower())
    if meaning is not None and meaning.cell_class is not None:
        raise TrainingDataError(
            f"{where}: {name!r} is one of the eight classes or a code of one, so it cannot be out of scope. Next: "
            f"remove {OUT_OF_SCOPE!r}, or give the cells another name."
        )
    if not re.fullmatch(CODE_PATTERN, name):
        raise TrainingDataError(
            f"{where}: expected a name of at most 32 letters, digits, - and _ after {OUT_OF_SCOPE!r}. Received: "
            f"{name[:80]!r}."
        )
    return meaning.label if meaning else name


def _read(path: Path, label: str | None, slide: str, bounds: ImageBounds) -> SiteImage | BrokenImage:
    found = digest_of_usable(path, bounds)
    return found if isinstance(found, BrokenImage) else SiteImage(path, label, slide, found)


def _distinct(found: list[SiteImage]) -> tuple[SiteImage, ...]:
    first: dict[str, SiteImage] = {}
    for image in found:
        other = first.setdefault(image.sha256, image)
        if image.label is not None and other.label not in (None, image.label):
            raise TrainingDataError(
                f"One image has two labels: {other.path} is {other.label}, {image.path} is {image.label} (sha256 "
                f"{image.sha256[:12]}). Next: remove the wrong one."
            )
        if other.label is None and image.label is not None:
            first[image.sha256] = image
    return tuple(first[digest] for digest in sorted(first))
