"""Probabilities and novelty become calls: the one rule by which a cell is classified or left unclassified.

The nightly run and the evaluation both use it, so that an evaluation measures what is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Reason = Literal["novel", "low_confidence"]

_NAMES: Final = np.array((*CELL_CLASSES, UNCLASSIFIED))


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of n cells by one model, in the order of the cells.

    Attributes:
        top: int64 (n,), index into `CELL_CLASSES` of the most probable class, even if the cell is unclassified.
        confidence: float64 (n,), probability of that class, in 0..1.
        called: The class that each cell is called, or "unclassified".
        reasons: Why each cell is unclassified; None for a classified cell.
        resembles: The code out of scope that each cell resembles, as the laboratory labels it; None for the others.
    """

    top: NDArray[np.int64]
    confidence: NDArray[np.float64]
    called: tuple[str, ...]
    reasons: tuple[Reason | None, ...]
    resembles: tuple[str | None, ...]

    @property
    def unclassified(self) -> NDArray[np.bool_]:
        """Bool (n,), True for cells without a call."""
        return np.fromiter((reason is not None for reason in self.reasons), np.bool_, len(self.reasons))


def decide(
    probabilities: NDArray[np.floating],
    novelty: NDArray[np.floating],
    *,
    confidence_threshold: float | NDArray[np.float64],
    novelty_threshold: float | NDArray[np.float64],
    of_codes: NDArray[np.floating] | None = None,
    codes: Sequence[str] = (),
) -> Calls:
    """Returns what a model calls each cell.

    A cell is unclassified if its novelty is above `novelty_threshold`, or if it is more probably of no class than of
    any ("novel": unlike the cells that the model was trained on), or else if its confidence is below
    `confidence_threshold` ("low_confidence"). A cell whose confidence or novelty is nan is unclassified.

    A cell resembles a code if that is more probable than every class and every other code, and its novelty is not
    above the threshold. It is then novel, whatever its most probable class.

    Args:
        probabilities: float (n, 8), in the order of `CELL_CLASSES`; what is missing to 1 is the probability of no
            class.
        novelty: float (n,), larger for cells that are less like the training cells.
        confidence_threshold: Smallest confidence of a call; of all, or float64 (n,) of each.
        novelty_threshold: Largest novelty of a call; of all, or float64 (n,) of each.
        of_codes: float (n, k), the probability of each code out of scope that the model knows; None if it knows none.
        codes: These k codes.

    Raises:
        ValueError: The shapes do not fit.
    """
    n_cells = len(novelty)
    if probabilities.shape != (n_cells, len(CELL_CLASSES)) or novelty.shape != (n_cells,):
        raise ValueError(
            f"Expected probabilities (n, {len(CELL_CLASSES)}) and novelty (n,). "
            f"Received: {probabilities.shape} and {novelty.shape}"
        )
    top = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n_cells), top].astype(np.float64)
    of_no_class = 1.0 - probabilities.sum(axis=1, dtype=np.float64)
    is_near = novelty <= novelty_threshold
    resembles: tuple[str | None, ...] = (None,) * n_cells
    is_of_no_class = of_no_class > confidence
    if of_codes is not None and codes:
        best = of_codes.argmax(axis=1)
        is_like = is_near & (of_codes[np.arange(n_cells), best] > confidence)
        is_of_no_class |= is_like
        resembles = tuple(
            codes[code] if like else None for code, like in zip(best.tolist(), is_like.tolist(), strict=True)
        )
    novel = ~is_near | is_of_no_class
    unsure = ~(confidence >= confidence_threshold)
    called = _NAMES[np.where(novel | unsure, len(CELL_CLASSES), top)]
    reasons: list[Reason | None] = [
        "novel" if is_novel else "low_confidence" if is_unsure else None
        for is_novel, is_unsure in zip(novel.tolist(), unsure.tolist(), strict=True)
    ]
    return Calls(top, confidence, tuple(called.tolist()), tuple(reasons), resembles)
