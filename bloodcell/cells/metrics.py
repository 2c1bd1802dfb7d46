"""Counted cells become figures: accuracy, sensitivity, precision, specificity, F1, likelihood; each rule exists once.

The outcome of a cell is (true class, most probable class, unclassified or not): 8 x 8 x 2, flat as 128 columns. A row
counts the cells with each outcome; rows can be added, and the figures of thousands of rows are computed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N_CLASSES: Final = len(CELL_CLASSES)
N_OUTCOMES: Final = 2 * _N_CLASSES**2

_LEAST_PROBABILITY: Final = float(np.finfo(np.float32).tiny)
"""Floor of a probability in the likelihood: the smallest float32. A float32 probability may round to 0, and one such
cell would make the mean infinite; a higher floor would make cells equally wrong that the model tells apart."""


@dataclass(frozen=True, slots=True)
class Share:
    """Counts, and the totals that they are a part of.

    Attributes:
        n: float64, any shape, whole numbers.
        total: float64, the same shape.
    """

    n: NDArray[np.float64]
    total: NDArray[np.float64]

    @property
    def value(self) -> NDArray[np.float64]:
        """The shares n / total, nan where the total is 0."""
        shares = np.full(self.n.shape, np.nan)
        np.divide(self.n, self.total, out=shares, where=self.total > 0)
        return shares

    @property
    def n_existing(self) -> int:
        """Number of shares whose total is not 0."""
        return int(np.count_nonzero(self.total))

    def of_class(self, index: int) -> Share:
        """Returns one column of shares that are (k, n_classes)."""
        return Share(self.n[:, index], self.total[:, index])


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of each of k counts.

    Attributes:
        accuracy: (k,), cells whose most probable class is the true one.
        unclassified: (k,), cells without a call.
        covered_accuracy: (k,), of the cells with a call, those called correctly.
        precision: (k, 8), in the order of `CELL_CLASSES`: of the cells with this most probable class, those of the
            class.
        sensitivity: (k, 8): of the cells of the class, those with this most probable class.
        specificity: (k, 8): of the cells of other classes, those with another most probable class.
        called_precision: (k, 8): of the cells called so, those of the class.
        called_sensitivity: (k, 8): of the cells of the class with a call, those called so.
        class_unclassified: (k, 8): of the cells of the class, those without a call.
        f1: float64 (k, 8), harmonic mean of precision and sensitivity; 0 for a class that is neither the true class nor
            the most probable class of any cell.
        macro_f1: float64 (k,), mean over the classes that occur in that count.
    """

    accuracy: Share
    unclassified: Share
    covered_accuracy: Share
    precision: Share
    sensitivity: Share
    specificity: Share
    called_precision: Share
    called_sensitivity: Share
    class_unclassified: Share
    f1: NDArray[np.float64]
    macro_f1: NDArray[np.float64]


def outcomes(
    truth: NDArray[np.integer], top: NDArray[np.integer], unclassified: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Returns int64 (n,): each cell's outcome, in 0..127.

    Args:
        truth: int (n,), index of the true class in `CELL_CLASSES`.
        top: int (n,), index of the most probable class.
        unclassified: bool (n,), cells without a call.
    """
    return (truth.astype(np.int64) * _N_CLASSES + top) * 2 + unclassified


def confusion_of(counts: NDArray[np.number]) -> tuple[NDArray[np.number], NDArray[np.number]]:
    """Returns two confusion matrices of one count of outcomes (128,); rows are true classes.

    Returns:
        (8, 8), whose columns are the most probable classes; and (8, 9), whose columns are the calls, with a ninth
        column for unclassified cells.
    """
    called, unclassified = np.moveaxis(counts.reshape(_N_CLASSES, _N_CLASSES, 2), 2, 0)
    return called + unclassified, np.column_stack([called, unclassified.sum(axis=1)])


def figures_of(counts: NDArray[np.float64]) -> Figures:
    """Returns the figures of each row of `counts`.

    Args:
        counts: float64 (k, 128), cells with each outcome; at least one cell in each row.
    """
    cells = counts.reshape(-1, _N_CLASSES, _N_CLASSES, 2)
    confusion = cells.sum(axis=3)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    n_true, n_called, n_cells = confusion.sum(axis=2), confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    n_others = n_cells[:, None] - n_true
    f1 = 2 * hits / np.maximum(n_true + n_called, 1)
    occurs = n_true > 0
    n_unclassified = cells[..., 1].sum(axis=(1, 2))
    called = cells[..., 0]
    called_hits = np.diagonal(called, axis1=1, axis2=2)
    return Figures(
        accuracy=Share(hits.sum(axis=1), n_cells),
        unclassified=Share(n_unclassified, n_cells),
        covered_accuracy=Share(called_hits.sum(axis=1), n_cells - n_unclassified),
        precision=Share(hits, n_called),
        sensitivity=Share(hits, n_true),
        specificity=Share(n_others - (n_called - hits), n_others),
        called_precision=Share(called_hits, called.sum(axis=1)),
        called_sensitivity=Share(called_hits, called.sum(axis=2)),
        class_unclassified=Share(cells[..., 1].sum(axis=2), n_true),
        f1=f1,
        macro_f1=(f1 * occurs).sum(axis=1) / occurs.sum(axis=1),
    )


def macro_sensitivity(n_right: NDArray[np.number], n_true: NDArray[np.number]) -> float:
    """Returns the mean sensitivity over the classes that occur.

    Args:
        n_right: (n_classes,), cells of each class whose most probable class is right.
        n_true: (n_classes,), cells of each class; at least one cell in all.
    """
    occurs = n_true > 0
    return float((n_right[occurs] / n_true[occurs]).mean())


def negative_log_likelihood(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Returns the mean of -log(probability of the true class), in nats.

    Args:
        probabilities: float (n, n_classes).
        labels: int (n,), the true classes.
    """
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(true, _LEAST_PROBABILITY)).mean())
