"""Drawn nights and training folders, written as an analyser and a pathologist would leave them.

A drawn night comes with its truth: OUT/<night>.truth.csv gives the class of every image. Its slides differ on purpose,
so that their differentials differ too.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES, LEUCOCYTE_CLASSES
from bloodcell.cells.names import TRUTH_ENDING
from bloodcell.drawing.cells import draw_cell
from bloodcell.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

CODES: Final = {
    "neutrophil": ("SNE", "SNE", "SNE", "SNE", "BNE"),
    "eosinophil": ("EO",),
    "basophil": ("BA",),
    "lymphocyte": ("LY",),
    "monocyte": ("MO",),
    "ig": ("PMY", "MY", "MMY"),
    "erythroblast": ("ERB",),
    "platelet": ("PLT",),
}
"""Codes that the drawn analyser gives a cell it recognises."""

MISTAKEN_CODES: Final = {
    "neutrophil": ("MMY", "MO", "EO"),
    "eosinophil": ("SNE", "BA"),
    "basophil": ("LY", "PMY"),
    "lymphocyte": ("MO", "ERB", "VLY"),
    "monocyte": ("LY", "MMY", "VLY"),
    "ig": ("MO", "SNE", "BL"),
    "erythroblast": ("LY", "SMU"),
    "platelet": ("ART", "GT"),
}
"""Codes that the drawn analyser gives a cell it gets wrong; some are out of scope."""

CODE_ACCURACY: Final = 0.85
"""Share of cells whose code is right.

Source: analysers before a person corrects them reach 82 % (Kratz 2005) to 89 % (Briggs).
"""

MAX_RIDER_SHARE: Final = 1 / 6
"""Largest share of erythroblasts and platelets on a slide, so that at least 100 of 120 cells are leucocytes."""

JPEG_QUALITY: Final = 75
"""Quality without chroma subsampling. Source: read from the files of Acevedo et al. 2020, Data in Brief 30:105474."""


@dataclass(frozen=True, slots=True)
class Smear:
    """What a drawn slide shows.

    Attributes:
        finding: The finding, as a haematologist would name it.
        shares: Percentages of the leucocytes, in the order of `LEUCOCYTE_CLASSES`.
        n_erythroblasts: Mean number of erythroblasts per 100 cells of the slide.
        n_platelets: Mean number of platelet crops per 100 cells of the slide.
    """

    finding: str
    shares: tuple[float, ...]
    n_erythroblasts: float
    n_platelets: float


SMEARS: Final = (
    #                         neu eos bas lym mon  ig
    Smear("ordinary",        (58, 3, 1, 30, 7.5, 0.5), 0.2, 5),
    Smear("eosinophilia",    (40, 27, 1, 25, 6.5, 0.5), 0.2, 4),
    Smear("left shift",      (62, 1, 1, 12, 7, 17), 6, 4),
    Smear("lymphocytosis",   (20, 1.5, 0.5, 72, 5.5, 0.5), 0.2, 4),
    Smear("monocytosis",     (50, 2, 1, 22, 23, 2), 0.5, 4),
    Smear("basophilia",      (52, 6, 14, 13, 6, 9), 4, 6),
)  # fmt: skip
"""The slides of a night use these in turn.

They are made up for demonstration and not taken from any patient. Each finding is marked enough to show in a
differential of 100 cells.
"""


@dataclass(frozen=True, slots=True)
class DrawnSlide:
    """One slide of a drawn night.

    Attributes:
        barcode: Its name.
        patient_key: Pseudonym of its invented patient; each slide has its own.
        finding: What the slide shows.
        n_cells: Number of cells of each of the eight classes.
    """

    barcode: str
    patient_key: str
    finding: str
    n_cells: dict[str, int]


@dataclass(frozen=True, slots=True)
class DrawnDrop:
    """A drawn night.

    Attributes:
        folder: The night's folder.
        truth: Table of path (relative to the folder's parent), class and expect (always `cell`) for every image.
        slides: Its slides.
    """

    folder: Path
    truth: Path
    slides: tuple[DrawnSlide, ...]

    @property
    def n_cells(self) -> int:
        """Number of images on all slides."""
        return sum(sum(slide.n_cells.values()) for slide in self.slides)

    def drawn_as(self) -> dict[tuple[str, str], str]:
        """Returns (barcode, file name) -> class of every image, read from the truth table."""
        with self.truth.open(newline="", encoding="utf-8") as table:
            rows = [(row["path"].split("/"), row["class"]) for row in csv.DictReader(table)]
        return {(barcode, name): cell_class for (_, barcode, name), cell_class in rows}


def make_drop(
    out: Path,
    *,
    night: date,
    n_slides: int = 3,
    cells_per_slide: int = 120,
    seed: int = 0,
    on_cell: Callable[[], None] | None = None,
) -> DrawnDrop:
    """Returns a drop of drawn cells, written to OUT/<night> with its truth beside it.

    The same arguments give the same bytes in every file. The marker `.complete` is written last.

    Args:
        out: Folder of the nights; created if missing.
        night: The night, which names the folder and dates the slides.
        n_slides: Number of slides; each shows the next of `SMEARS`.
        cells_per_slide: Images per slide; at least five in six are leucocytes.
        seed: Source of everything drawn, 0 or more.
        on_cell: Called after every image.

    Raises:
        ConfigurationError: The night's folder exists and is not empty.
    """
    folder = out / night.isoformat()
    _claim(folder)
    truth: list[tuple[str, str, str]] = []
    slides = []
    for number in range(n_slides):
        slide, classes = _planned(night, number, cells_per_slide, seed)
        (folder / slide.barcode).mkdir()
        for n, (cell_class, name) in enumerate(zip(classes, _names(classes, night, number, seed), strict=True)):
            rng = np.random.default_rng([_DROP, seed, night.toordinal(), number, n])
            save_cell(cell_class, rng, folder / slide.barcode / name)
            truth.append((f"{folder.name}/{slide.barcode}/{name}", cell_class, "cell"))
            if on_cell:
                on_cell()
        (folder / slide.barcode / "slide.json").write_text(_slide_json(slide, night, number))
        slides.append(slide)
    drop = DrawnDrop(folder, out / f"{folder.name}{TRUTH_ENDING}", tuple(slides))
    with drop.truth.open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("path", "class", "expect"), *truth])
    (folder / ".complete").touch()
    return drop


def draw_folder(out: Path, *, cells_per_class: int, seed: int, on_cell: Callable[[], None] | None = None) -> int:
    """Returns the number of images written to OUT/<class>/<number>.jpg, `cells_per_class` of each class.

    No image equals one of a drop, whatever the seeds. Numbers are shuffled over all classes, so names reveal no class.

    Args:
        out: The training folder; created if missing.
        cells_per_class: Images of each class.
        seed: Source of everything drawn, 0 or more.
        on_cell: Called after every image.

    Raises:
        ConfigurationError: The folder exists and is not empty.
    """
    _claim(out)
    classes = [cell_class for cell_class in CELL_CLASSES for _ in range(cells_per_class)]
    numbers = np.random.default_rng([_FOLDER, seed]).permutation(len(classes))
    for n, (cell_class, number) in enumerate(zip(classes, numbers, strict=True)):
        (out / cell_class).mkdir(exist_ok=True)
        rng = np.random.default_rng([_FOLDER, seed, CELL_CLASSES.index(cell_class), n % cells_per_class])
        save_cell(cell_class, rng, out / cell_class / f"{number:06d}.jpg")
        if on_cell:
            on_cell()
    return len(classes)


# The first number of each seed, so that drops, training folders and the planning of slides never share a stream.
_DROP, _FOLDER, _PLAN, _NAMES = 1, 2, 3, 4


def _claim(folder: Path) -> None:
    """Creates `folder`, or accepts it if it is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigurationError(
            f"{folder} is not empty: drawn cells are written only into a new or empty folder, so that they never mix "
            "with other images. Choose another night or folder, or remove this one."
        )


def _planned(night: date, number: int, n_cells: int, seed: int) -> tuple[DrawnSlide, list[str]]:
    """One slide and the class of each of its cells, in the order the analyser found them."""
    smear = SMEARS[number % len(SMEARS)]
    rng = np.random.default_rng([_PLAN, seed, night.toordinal(), number])
    most = int(n_cells * MAX_RIDER_SHARE)
    n_erythroblasts = min(most, int(rng.poisson(smear.n_erythroblasts * n_cells / 100)))
    n_platelets = min(most - n_erythroblasts, int(rng.poisson(smear.n_platelets * n_cells / 100)))
    shares = rng.dirichlet(np.array(smear.shares) * _STEADINESS)
    counts = rng.multinomial(n_cells - n_erythroblasts - n_platelets, shares)
    of_class = dict(zip(LEUCOCYTE_CLASSES, counts.tolist(), strict=True))
    of_class |= {"erythroblast": n_erythroblasts, "platelet": n_platelets}
    classes = [cell_class for cell_class, n in of_class.items() for _ in range(n)]
    rng.shuffle(classes)
    batch = int(hashlib.blake2s(f"{night} {seed}".encode()).hexdigest()[:8], 16) % 10_000
    barcode = f"S{night:%y%m%d}{batch:04d}{number:03d}"
    return DrawnSlide(barcode, _pseudonym(night, number, seed), smear.finding, of_class), classes


def _pseudonym(night: date, number: int, seed: int) -> str:
    """A patient's pseudonym, whose digests are in the order of the slides.

    Patients are split by the digest of their key. In this order, the first few slides and the next few have each
    finding, so that no split of a demonstration lacks a class.
    """
    keys = (
        f"P{hashlib.blake2s(f'{night} {seed} {number} {attempt}'.encode()).hexdigest()[:10]}"
        for attempt in itertools.count()
    )
    return next(key for key in keys if hashlib.sha256(key.encode()).digest()[0] == number % 256)


_STEADINESS: Final = 3.0
"""How closely a slide's shares follow those of its smear, as Dirichlet concentration per percentage point: a share of
30 % varies by 2.6 points."""


def _names(classes: list[str], night: date, number: int, seed: int) -> Iterator[str]:
    """One file name per cell, <CODE>_<number>.jpg, with the code of the drawn analyser, which may be wrong."""
    rng = np.random.default_rng([_NAMES, seed, night.toordinal(), number])
    running = int(rng.integers(1_000_000, 9_000_000))
    for cell_class in classes:
        codes = CODES[cell_class] if rng.random() < CODE_ACCURACY else MISTAKEN_CODES[cell_class]
        running += int(rng.integers(1, 10))
        yield f"{codes[rng.integers(len(codes))]}_{running:08d}.jpg"


def _slide_json(slide: DrawnSlide, night: date, number: int) -> str:
    acquired = datetime.combine(night, time(20), tzinfo=UTC) + timedelta(minutes=3 * number)
    return json.dumps(
        {
            "barcode": slide.barcode,
            "order_id": f"O{slide.barcode[1:]}",
            "analyser": "drawn",
            "patient_key": slide.patient_key,
            "acquired_at": acquired.isoformat(),
        },
        indent=2,
    )


def save_cell(cell_class: str, rng: np.random.Generator, path: Path | BinaryIO) -> None:
    """Writes a drawn cell as a JPEG file."""
    Image.fromarray(draw_cell(cell_class, rng)).save(path, "JPEG", quality=JPEG_QUALITY, subsampling=0)
