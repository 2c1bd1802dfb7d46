"""Compares differentials by calls with differentials by labels of the same cells, slide by slide.

Accuracy says how many cells are right, but a laboratory reports the percentages of a slide. Errors that cancel out do
not change the percentages; errors in one direction do, and show as a bias.

Source: Bland and Altman, Statistical methods for assessing agreement between two methods of clinical measurement,
Lancet 327 (1986) 307-310 (bias, limits of agreement).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES, LEUCOCYTE_CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_LEUCOCYTES: Final = 20
"""Leucocytes, by labels and by calls, that a slide needs to be compared.

One cell then changes a percentage by at most 5 points; with fewer, a single cell changes it by more than any bias of
interest. It is fewer than the 100 of a reported differential, because only some cells of a slide are labelled.
"""

WIDTH_SD: Final = 1.96
"""Half width of the limits of agreement in standard deviations. Source: Bland and Altman 1986 (as 2, made exact)."""

_POINT_DECIMALS: Final = 2
"""Decimals of the points that are drawn and stored; bias and limits of agreement are computed before rounding."""


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """Percentages of one leucocyte class on all slides, in percentage points.

    Attributes:
        cell_class: One of `LEUCOCYTE_CLASSES`.
        bias: Mean of calls minus labels; None without slides.
        lower: Lower 95 % limit of agreement; None with fewer than two slides.
        upper: Upper 95 % limit of agreement; None with fewer than two slides.
        means: Mean of the two percentages of each slide.
        differences: Calls minus labels of each slide.
    """

    cell_class: str
    bias: float | None
    lower: float | None
    upper: float | None
    means: tuple[float, ...]
    differences: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model's differentials against those of the labels.

    Attributes:
        n_slides: Slides compared.
        n_left_out: Slides with fewer than `MIN_LEUCOCYTES` leucocytes by labels or by calls.
        classes: The six leucocyte classes, in the order of `LEUCOCYTE_CLASSES`.
    """

    n_slides: int
    n_left_out: int
    classes: tuple[ClassAgreement, ...]


def slide_agreement(
    slides: NDArray[np.integer],
    truth: NDArray[np.integer],
    top: NDArray[np.integer],
    unclassified: NDArray[np.bool_],
) -> Agreement:
    """Returns how far the differentials of the calls are from those of the labels.

    Percentages are of the six leucocyte classes, as in a report: erythroblasts, platelets and unclassified cells are
    not part of the denominator. Both differentials are of the same labelled cells.

    Args:
        slides: integer (n,), any number for each slide, different from all others.
        truth: integer (n,), index of the true class in `CELL_CLASSES`.
        top: integer (n,), index of the most probable class.
        unclassified: bool (n,), cells without a call.
    """
    known, row = np.unique(slides, return_inverse=True)
    by_labels = _leucocytes(row, truth, len(known))
    by_calls = _leucocytes(row[~unclassified], top[~unclassified], len(known))
    n_leucocytes = np.minimum(by_labels.sum(axis=1), by_calls.sum(axis=1))
    enough = n_leucocytes >= MIN_LEUCOCYTES
    labelled, called = (100 * n / n.sum(axis=1, keepdims=True) for n in (by_labels[enough], by_calls[enough]))
    return Agreement(
        n_slides=int(enough.sum()),
        n_left_out=int((~enough).sum()),
        classes=tuple(
            _agreement_of(cell_class, labelled[:, i], called[:, i] - labelled[:, i])
            for i, cell_class in enumerate(LEUCOCYTE_CLASSES)
        ),
    )


def _leucocytes(row: NDArray[np.integer], classes: NDArray[np.integer], n_slides: int) -> NDArray[np.int64]:
    """Returns the number of cells of each slide (rows) in each of `LEUCOCYTE_CLASSES` (columns)."""
    n_classes = len(CELL_CLASSES)
    counts = np.bincount(row * n_classes + classes, minlength=n_slides * n_classes).reshape(n_slides, n_classes)
    return counts[:, [CELL_CLASSES.index(cell_class) for cell_class in LEUCOCYTE_CLASSES]]


def _agreement_of(cell_class: str, labelled: NDArray[np.float64], difference: NDArray[np.float64]) -> ClassAgreement:
    n_slides = len(difference)
    bias = float(difference.mean()) if n_slides else None
    half = WIDTH_SD * float(difference.std(ddof=1)) if n_slides > 1 else None
    return ClassAgreement(
        cell_class=cell_class,
        bias=bias,
        lower=None if bias is None or half is None else bias - half,
        upper=None if bias is None or half is None else bias + half,
        means=tuple((labelled + difference / 2).round(_POINT_DECIMALS).tolist()),
        differences=tuple(difference.round(_POINT_DECIMALS).tolist()),
    )
