"""Labels and calls become an evaluation: what is right, what is missed, and how certain the figures are.

There are two views, and both are reported. Most probable class: each cell is given its most probable class, as papers
count. Called: as bloodcell reports, where a cell beyond a threshold is left unclassified and a person looks at it.

Intervals are exact 95 % intervals (Clopper-Pearson, `bloodcell.cells.intervals`): for independent cells they are never
too narrow, even for the few cells of a rare class. Cells of one patient are not independent, so intervals over few
patients are too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.intervals import Proportion, proportion, proportions
from bloodcell.cells.metrics import (
    N_OUTCOMES,
    confusion_of,
    figures_of,
    macro_sensitivity,
    negative_log_likelihood,
    outcomes,
)
from bloodcell.errors import TrainingDataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.cells.metrics import Figures, Share

N_BINS: Final = 15
"""Equal bins of confidence for the calibration error.

Source: Guo et al., On calibration of modern neural networks, ICML 2017, section 5 (ECE with M = 15).
"""


@dataclass(frozen=True, slots=True)
class ClassEvaluation:
    """Figures of one class, each cell given its most probable class; a proportion has no value where its total is 0.

    Attributes:
        cell_class: One of `CELL_CLASSES`.
        n_true: Cells of the class.
        precision: Of the cells given this class, those that belong to it.
        sensitivity: Of the cells of the class, those given it.
        specificity: Of the cells of other classes, those not given it.
        f1: Harmonic mean of precision and sensitivity; 0 where no cell was given it.
        called_sensitivity: As sensitivity, but an unclassified cell counts as missed.
        n_unclassified: Cells of the class that were left unclassified.
    """

    cell_class: str
    n_true: int
    precision: Proportion
    sensitivity: Proportion
    specificity: Proportion
    f1: float
    called_sensitivity: Proportion
    n_unclassified: int


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Cells of similar confidence: how confident the model was, and how often it was right."""

    lower: float
    upper: float
    confidence: float
    accuracy: Proportion


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a model is on labelled cells.

    Attributes:
        n_cells: Labelled cells.
        accuracy: Cells whose most probable class is the true one.
        macro_f1: Mean F1 over the classes that occur.
        balanced_accuracy: Mean sensitivity over the classes that occur.
        covered_accuracy: Of the cells with a call, those called correctly.
        coverage: Cells with a call.
        unclassified: Cells without a call.
        classes: Figures of each class, in the order of `CELL_CLASSES`.
        confusion: Rows are true classes, columns most probable classes, in the order of `CELL_CLASSES`.
        called_confusion: As `confusion`, but of the calls, with a ninth column for unclassified cells.
        calibration_error: Mean gap between confidence and accuracy over the bins, weighted by their cells (ECE).
        bins: The bins that have cells.
        negative_log_likelihood: Mean over the cells, in nats.
    """

    n_cells: int
    accuracy: Proportion
    macro_f1: float
    balanced_accuracy: float
    covered_accuracy: Proportion
    coverage: Proportion
    unclassified: Proportion
    classes: tuple[ClassEvaluation, ...]
    confusion: tuple[tuple[int, ...], ...]
    called_confusion: tuple[tuple[int, ...], ...]
    calibration_error: float
    bins: tuple[CalibrationBin, ...]
    negative_log_likelihood: float


def evaluate_calls(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating], unclassified: NDArray[np.bool_]
) -> Evaluation:
    """Returns how good calls are.

    Args:
        truth: int (n,), index of the true class in `CELL_CLASSES`.
        probabilities: float (n, 8), in the order of `CELL_CLASSES`.
        unclassified: bool (n,), cells without a call (`bloodcell.cells.calls.Calls.unclassified`).

    Raises:
        ValueError: Shapes that do not match, or a truth that is not the index of a class.
        TrainingDataError: No cells.
    """
    _check(truth, probabilities, unclassified)
    top = probabilities.argmax(axis=1)
    counts = np.bincount(outcomes(truth, top, unclassified), minlength=N_OUTCOMES)
    figures = figures_of(counts[None].astype(np.float64))
    confusion, called_confusion = confusion_of(counts)
    bins = _bins(probabilities.max(axis=1), top == truth)
    n_cells, n_unclassified = len(truth), int(unclassified.sum())
    (accuracy,), (covered_accuracy,) = _exact(figures.accuracy), _exact(figures.covered_accuracy)
    return Evaluation(
        n_cells=n_cells,
        accuracy=accuracy,
        macro_f1=float(figures.macro_f1[0]),
        balanced_accuracy=macro_sensitivity(np.diag(confusion), confusion.sum(axis=1)),
        covered_accuracy=covered_accuracy,
        coverage=proportion(n_cells - n_unclassified, n_cells),
        unclassified=proportion(n_unclassified, n_cells),
        classes=_classes(figures, called_confusion),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        called_confusion=tuple(tuple(row) for row in called_confusion.tolist()),
        calibration_error=sum(
            abs(each.confidence - each.accuracy.n / each.accuracy.total) * each.accuracy.total / n_cells
            for each in bins
        ),
        bins=bins,
        negative_log_likelihood=negative_log_likelihood(probabilities, truth),
    )


def _check(truth: NDArray[np.integer], probabilities: NDArray[np.floating], unclassified: NDArray[np.bool_]) -> None:
    n_classes = len(CELL_CLASSES)
    if truth.ndim != 1 or probabilities.shape != (len(truth), n_classes) or unclassified.shape != truth.shape:
        raise ValueError(
            f"Expected truth (n,), probabilities (n, {n_classes}) and unclassified (n,). "
            f"Received: {truth.shape}, {probabilities.shape} and {unclassified.shape}"
        )
    if len(truth) == 0:
        raise TrainingDataError("There are no cells to evaluate on. Expected at least one labelled image.")
    if truth.min() < 0 or truth.max() >= n_classes:
        raise ValueError(f"Expected truth in 0..{n_classes - 1}. Received: {truth.min()}..{truth.max()}")


def _exact(share: Share) -> tuple[Proportion, ...]:
    """Returns the shares of one count, with exact intervals."""
    return proportions(share.n.ravel().astype(int).tolist(), share.total.ravel().astype(int).tolist())


def _classes(figures: Figures, called_confusion: NDArray[np.number]) -> tuple[ClassEvaluation, ...]:
    precision, sensitivity, specificity = map(_exact, (figures.precision, figures.sensitivity, figures.specificity))
    n_true = called_confusion.sum(axis=1).tolist()
    called_sensitivity = proportions(np.diag(called_confusion).tolist(), n_true)
    return tuple(
        ClassEvaluation(
            cell_class=cell_class,
            n_true=n_true[i],
            precision=precision[i],
            sensitivity=sensitivity[i],
            specificity=specificity[i],
            f1=float(figures.f1[0, i]),
            called_sensitivity=called_sensitivity[i],
            n_unclassified=int(called_confusion[i, -1]),
        )
        for i, cell_class in enumerate(CELL_CLASSES)
    )


def bin_of(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """Returns int64 (n,): each confidence's bin, open below and closed above, so that 1 falls into the last."""
    return np.clip(np.ceil(confidence.astype(np.float64) * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)


def _bins(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    edges, index = np.linspace(0, 1, N_BINS + 1), bin_of(confidence)
    return tuple(
        CalibrationBin(
            lower=float(edges[i]),
            upper=float(edges[i + 1]),
            confidence=float(confidence[index == i].mean(dtype=np.float64)),
            accuracy=proportion(int(right[index == i].sum()), int((index == i).sum())),
        )
        for i in range(N_BINS)
        if (index == i).any()
    )
