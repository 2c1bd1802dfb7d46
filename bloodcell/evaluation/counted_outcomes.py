"""Counted outcomes become figures, of one count or of thousands of draws at once.

An outcome of a cell is (true group, most probable group, unclassified or not): 8 x 8 x 2, flat as 128 columns, so that
outcomes of any cells are added up by adding columns, and a draw of patients by one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation.resampling import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N_CLASSES: Final = len(CELL_CLASSES)
N_OUTCOMES: Final = 2 * _N_CLASSES**2


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of each of k counts.

    Attributes:
        accuracy: (k,), cells whose most probable group is the true one.
        unclassified: (k,), cells without a call.
        covered_accuracy: (k,), of the cells with a call, those called right.
        precision: (k, 8), in the order of `CELL_CLASSES`.
        sensitivity: (k, 8).
        specificity: (k, 8).
        f1: float64 (k, 8), 0 where a group neither occurs nor is called.
        macro_f1: float64 (k,), mean over the groups that occur in that count.
    """

    accuracy: Share
    unclassified: Share
    covered_accuracy: Share
    precision: Share
    sensitivity: Share
    specificity: Share
    f1: NDArray[np.float64]
    macro_f1: NDArray[np.float64]


def outcomes(
    truth: NDArray[np.integer], top: NDArray[np.integer], unclassified: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Returns int64 (n,): each cell's outcome, in 0..127."""
    return (truth.astype(np.int64) * _N_CLASSES + top) * 2 + unclassified


def figures_of(counts: NDArray[np.float64]) -> Figures:
    """Returns the figures of each row of `counts`.

    Args:
        counts: float64 (k, 128), cells with each outcome; at least one cell a row.
    """
    cells = counts.reshape(-1, _N_CLASSES, _N_CLASSES, 2)
    confusion = cells.sum(axis=3)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    n_true, n_called, n_cells = confusion.sum(axis=2), confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    n_others = n_cells[:, None] - n_true
    f1 = 2 * hits / np.maximum(n_true + n_called, 1)
    occurs = n_true > 0
    n_unclassified = cells[..., 1].sum(axis=(1, 2))
    return Figures(
        accuracy=Share(hits.sum(axis=1), n_cells),
        unclassified=Share(n_unclassified, n_cells),
        covered_accuracy=Share(
            np.diagonal(cells[..., 0], axis1=1, axis2=2).sum(axis=1),
            n_cells - n_unclassified,
        ),
        precision=Share(hits, n_called),
        sensitivity=Share(hits, n_true),
        specificity=Share(n_others - (n_called - hits), n_others),
        f1=f1,
        macro_f1=(f1 * occurs).sum(axis=1) / occurs.sum(axis=1),
    )
