"""The eight cell classes, each drawn with its own nucleus, cytoplasm, granules and size, on an empty sheet.

Radii are in pixels of a 360 x 363 px crop, whose red cells are 52 to 72 px wide. How often a form occurs (bands, lobes,
stages of maturation) is chosen so that a training folder shows all of them; it is not taken from patients.
Source: sizes and forms were taken from 60 images per class of Acevedo et al. 2020, Data in Brief 30:105474.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.drawing import palette
from bloodcell.drawing.shapes import arc, chain, cover, ellipse, limb, merged, outline
from bloodcell.drawing.sheet import Sheet

if TYPE_CHECKING:
    from collections.abc import Callable

    from bloodcell.drawing.palette import Stain
    from bloodcell.drawing.shapes import Plane
    from bloodcell.drawing.sheet import Portrait

TURN: Final = 2 * np.pi


def portrait(cell_class: str, rng: np.random.Generator, stain: Stain) -> Portrait:
    """Returns a new cell of a class, one of `bloodcell.cells.classes.CELL_CLASSES`."""
    return _ARTISTS[cell_class](rng, stain)


def _neutrophil(rng: np.random.Generator, stain: Stain) -> Portrait:
    sheet = Sheet(rng, stain, rng.uniform(59, 72), 0.05)
    sheet.cytoplasm(palette.NEUTROPHIL_CYTOPLASM, contrast=0.45, opacity=0.9)
    sheet.speckle(
        sheet.body, palette.NEUTROPHIL_GRANULE, 5, (0.7, 1.4), share=rng.uniform(0.5, 0.95), opacity=0.55, margin=2
    )
    shape = (
        _band(sheet) if rng.random() < 0.15 else _lobes(sheet, int(rng.choice([2, 3, 4, 5], p=[0.15, 0.45, 0.3, 0.1])))
    )
    sheet.nucleus(shape, palette.NEUTROPHIL_NUCLEUS, grain=4, clear=0.02, contrast=0.45)
    return sheet.finished()


def _band(sheet: Sheet) -> Plane:
    """A nucleus in the form of one bent rod of even width."""
    rng, radius = sheet.rng, sheet.radius
    first, span = rng.uniform(0, TURN), rng.uniform(3.0, 4.4)
    points = arc((0, 0), radius * rng.uniform(0.44, 0.52), first, first + span, 7)
    widths = radius * rng.uniform(0.17, 0.22) * rng.normal(1, 0.06, len(points))
    return chain(*sheet.shaken(3.0, 24), points, widths.tolist())


def _lobes(sheet: Sheet, n: int, spread: float = 0.85, bulk: float = 0.31) -> Plane:
    """A nucleus of `n` lobes joined by strands; `bulk` is its area as a share of the cell's."""
    rng, radius = sheet.rng, sheet.radius
    x, y = sheet.shaken(3.0, 24)
    angles = rng.uniform(0, TURN) + np.arange(n) * TURN * spread / n + rng.normal(0, 0.12, n)
    size = radius * np.sqrt(bulk / n)
    middles = [
        (far * float(np.cos(a)), far * float(np.sin(a)))
        for a, far in zip(angles, np.minimum(radius * rng.uniform(0.4, 0.56, n), radius * 0.9 - size), strict=True)
    ]
    shapes = []
    for angle, middle in zip(angles, middles, strict=True):
        broad = size * rng.uniform(0.85, 1.1)
        shapes.append(ellipse(x, y, middle, (broad * rng.uniform(0.75, 0.95), broad * 1.2), angle + rng.normal(0, 0.4)))
    for start, end in pairwise(middles):
        width = radius * rng.uniform(0.03, 0.1)
        shapes.append(limb(x, y, start, end, (width, width)))
    return merged(shapes)


def _eosinophil(rng: np.random.Generator, stain: Stain) -> Portrait:
    sheet = Sheet(rng, stain, rng.uniform(58, 73), 0.04)
    sheet.cytoplasm(palette.EOSINOPHIL_CYTOPLASM)
    red = palette.EOSINOPHIL_GRANULE
    for colour in (red.dark, red.light, red.dark):
        sheet.speckle(sheet.body, colour, 5.2, (2.1, 3.3), opacity=0.7, margin=0.5)
    shape = _lobes(sheet, int(rng.choice([2, 3], p=[0.85, 0.15])), spread=rng.uniform(0.7, 0.95), bulk=0.32)
    shape = sheet.nucleus(shape, palette.EOSINOPHIL_NUCLEUS, clear=0.3, contrast=0.4)
    sheet.speckle(shape, red.light, 12, (1.8, 2.8), share=0.2, opacity=0.4)
    return sheet.finished()


def _basophil(rng: np.random.Generator, stain: Stain) -> Portrait:
    sheet = Sheet(rng, stain, rng.uniform(52, 67), 0.06)
    if rng.random() < 0.5:  # granules that burst while smearing leave a pink veil
        veil = outline(rng, sheet.x + 6, sheet.y - 4, sheet.radius * 1.1, 0.08)
        sheet.paint(cover(veil, 14) * np.float32(0.3), stain.of(palette.BASOPHIL_HALO))
    sheet.cytoplasm(palette.BASOPHIL_CYTOPLASM, grain=7)
    shape = _lobes(sheet, 2, spread=0.8, bulk=rng.uniform(0.4, 0.6))
    sheet.nucleus(shape, palette.BASOPHIL_NUCLEUS, clear=0.3)
    grains = palette.BASOPHIL_GRANULE
    for colour, spacing, share in (
        (grains.dark, 7.0, 1.0),
        (grains.light, 8.0, 0.8),
        (grains.dark, 6.0, rng.uniform(0.4, 0.9)),
    ):
        sheet.speckle(sheet.body, colour, spacing, (1.6, 3.6), share=share, opacity=0.8, margin=-1)
    return sheet.finished()


def _lymphocyte(rng: np.random.Generator, stain: Stain) -> Portrait:
    large = rng.random() < 0.25
    sheet = Sheet(rng, stain, rng.uniform(55, 64) if large else rng.uniform(44, 54), 0.05, rng.choice([0, 0.03]))
    sheet.cytoplasm(palette.LYMPHOCYTE_CYTOPLASM, grain=5, contrast=0.5)
    share = rng.uniform(0.7, 0.8) if large else rng.uniform(0.82, 0.92)
    size, angle = sheet.radius * share, rng.uniform(0, TURN)
    off = (sheet.radius - size) * rng.uniform(0.3, 0.8)
    x, y = sheet.shaken(1.5, 20)
    shape = outline(rng, x - np.float32(off * np.cos(angle)), y - np.float32(off * np.sin(angle)), size, 0.04)
    sheet.nucleus(shape, palette.LYMPHOCYTE_NUCLEUS, grain=6, clear=0.28, contrast=0.32)
    if large and rng.random() < 0.4:
        sheet.speckle(sheet.body - np.maximum(shape, 0), palette.PRIMARY_GRANULE, 14, (1.2, 2.0), share=0.3, margin=3)
    return sheet.finished()


def _monocyte(rng: np.random.Generator, stain: Stain) -> Portrait:
    sheet = Sheet(rng, stain, rng.uniform(66, 84), rng.uniform(0.05, 0.12), rng.choice([0, 0.03, 0.05]))
    sheet.cytoplasm(palette.MONOCYTE_CYTOPLASM, grain=3.2, contrast=0.4)
    sheet.speckle(sheet.body, palette.MONOCYTE_DUST, 5, (0.5, 1.1), share=0.7, opacity=0.4, margin=2)
    radius, first = sheet.radius, rng.uniform(0, TURN)
    span, width = (rng.uniform(2.6, 3.6), 0.3) if rng.random() < 0.45 else (rng.uniform(1.5, 2.3), 0.4)
    middle = (-radius * 0.12 * float(np.cos(first + span / 2)), -radius * 0.12 * float(np.sin(first + span / 2)))
    points = arc(middle, radius * rng.uniform(0.4, 0.46), first, first + span, 6)
    widths = radius * width * rng.normal(1, 0.09, len(points))
    shape = chain(*sheet.shaken(3.0, 18), points, widths.tolist())
    sheet.nucleus(shape, palette.MONOCYTE_NUCLEUS, grain=4, clear=0.32, contrast=0.4)
    if rng.random() < 0.4:
        sheet.bubbles(int(rng.integers(2, 9)), (2.2, 5.0))
    return sheet.finished()


def _ig(rng: np.random.Generator, stain: Stain) -> Portrait:
    stage = rng.choice(["promyelocyte", "myelocyte", "metamyelocyte"], p=[0.25, 0.45, 0.3])
    if stage == "promyelocyte":
        return _promyelocyte(rng, stain)
    sheet = Sheet(rng, stain, rng.uniform(60, 74), 0.06)
    angle = rng.uniform(0, TURN)
    if stage == "myelocyte":
        sheet.cytoplasm(palette.MYELOCYTE_CYTOPLASM, contrast=0.5)
        shape = _eccentric(sheet, angle, rng.uniform(0.54, 0.64), rng.uniform(0.78, 0.95))
        spacing, radii = 6.0, (1.0, 2.0)
    else:
        sheet.cytoplasm(palette.METAMYELOCYTE_CYTOPLASM, contrast=0.45)
        points = arc((0, 0), sheet.radius * 0.36, angle - 1.0, angle + 1.0, 5)
        widths = sheet.radius * 0.33 * rng.normal(1, 0.05, len(points))
        shape = chain(*sheet.shaken(2.0, 18), points, widths.tolist())
        spacing, radii = 5.5, (0.8, 1.6)
    shape = sheet.nucleus(shape, palette.IG_NUCLEUS, grain=5, clear=0.26, contrast=0.4)
    sheet.speckle(sheet.body, palette.PRIMARY_GRANULE, spacing, radii, share=rng.uniform(0.6, 1), opacity=0.6, margin=2)
    return sheet.finished()


def _promyelocyte(rng: np.random.Generator, stain: Stain) -> Portrait:
    sheet = Sheet(rng, stain, rng.uniform(72, 86), 0.06)
    sheet.cytoplasm(palette.PROMYELOCYTE_CYTOPLASM, contrast=0.5)
    shape = _eccentric(sheet, rng.uniform(0, TURN), rng.uniform(0.62, 0.72), rng.uniform(0.85, 0.98))
    sheet.nucleus(shape, palette.IG_NUCLEUS, grain=4, clear=0.36, contrast=0.35)
    sheet.speckle(
        sheet.body, palette.PRIMARY_GRANULE, 5.5, (1.3, 2.4), share=rng.uniform(0.5, 0.95), opacity=0.75, margin=2
    )
    return sheet.finished()


def _eccentric(sheet: Sheet, angle: float, size: float, aspect: float) -> Plane:
    """A round or oval nucleus of `size` cell radii that lies against one side of the cell."""
    far = sheet.radius * (1 - size) * sheet.rng.uniform(0.6, 0.95)
    radii = (sheet.radius * size * aspect, sheet.radius * size)
    x, y = sheet.shaken(2.0, 22)
    return ellipse(x, y, (far * float(np.cos(angle)), far * float(np.sin(angle))), radii, angle)


def _erythroblast(rng: np.random.Generator, stain: Stain) -> Portrait:
    stages = (  # cytoplasm, nucleus as a share of the cell's radius, how much of the chromatin is clear
        (palette.BASOPHILIC_CYTOPLASM, rng.uniform(0.7, 0.78), 0.05),
        (palette.POLYCHROMATIC_CYTOPLASM, rng.uniform(0.56, 0.68), -0.1),
        (palette.ORTHOCHROMATIC_CYTOPLASM, rng.uniform(0.46, 0.56), -0.35),
    )
    ink, share, clear = stages[rng.choice(3, p=[0.2, 0.5, 0.3])]
    sheet = Sheet(rng, stain, rng.uniform(40, 54), 0.06)
    sheet.cytoplasm(ink, grain=14, contrast=0.4)
    shape = _eccentric(sheet, rng.uniform(0, TURN), share, rng.uniform(0.86, 1.0))
    sheet.nucleus(shape, palette.ERYTHROBLAST_NUCLEUS, grain=7, clear=clear, contrast=0.55)
    return sheet.finished()


def _platelet(rng: np.random.Generator, stain: Stain) -> Portrait:
    sheet = Sheet(rng, stain, rng.uniform(19, 33), 0.1, rng.uniform(0.03, 0.15))
    sheet.cytoplasm(palette.PLATELET_BODY, grain=5, contrast=0.5, opacity=0.85)
    core = sheet.body - np.float32(sheet.radius * 0.18)
    sheet.speckle(core, palette.PLATELET_GRANULE, 4.2, (1.0, 2.1), share=rng.uniform(0.65, 1), opacity=0.75)
    return sheet.finished()


_ARTISTS: Final[dict[str, Callable[[np.random.Generator, Stain], Portrait]]] = {
    "basophil": _basophil,
    "eosinophil": _eosinophil,
    "erythroblast": _erythroblast,
    "ig": _ig,
    "lymphocyte": _lymphocyte,
    "monocyte": _monocyte,
    "neutrophil": _neutrophil,
    "platelet": _platelet,
}
