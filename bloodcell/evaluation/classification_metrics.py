"""Truth and calls become an evaluation: what is right, what is missed, and how sure one can be of it.

Two views, both reported: **forced**, each cell is given its most probable group, as papers count; and **called**, as
the product reports, where a cell outside of the thresholds is unclassified and goes to a person.

Limits are exact 95 % ones (Clopper-Pearson, `bloodcell.cells.intervals`): never too narrow, also for the few cells of a
rare class. They treat cells as independent; cells of one patient are not, so limits over few patients are too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.intervals import Proportion, proportion, proportions
from bloodcell.errors import TrainingDataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_BINS: Final = 15
"""Equal bins of confidence for the calibration error.

Source: Guo et al., On calibration of modern neural networks, ICML 2017, section 5 (ECE with M = 15).
"""


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Figures of one group; `None` limits where there is nothing to divide by.

    Attributes:
        cell_class: One of `CELL_CLASSES`.
        n_true: Cells that are of it.
        precision: Of the cells called it, those that are.
        sensitivity: Of the cells that are, those called it.
        specificity: Of the cells that are not, those not called it.
        f1: Harmonic mean of precision and sensitivity; 0 where nothing was called it.
        called_sensitivity: As sensitivity, an unclassified cell counts as missed.
        n_unclassified: Cells of it left unclassified.
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
    """Cells of similar confidence: how sure the model was, and how often it was right."""

    lower: float
    upper: float
    confidence: float
    accuracy: Proportion


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a model is on labelled cells.

    Attributes:
        n_cells: Labelled cells.
        accuracy: Forced: cells whose most probable group is the true one.
        macro_f1: Mean over the groups that occur of their F1, forced.
        balanced_accuracy: Mean over the groups that occur of their sensitivity, forced.
        covered_accuracy: Of the cells with a call, those called right.
        coverage: Cells with a call.
        unclassified: Cells without.
        classes: Figures of each group, in the order of `CELL_CLASSES`.
        confusion: Rows true group, columns most probable group, in the order of `CELL_CLASSES`; forced.
        called_confusion: As `confusion`, of the calls, with a ninth column for unclassified.
        calibration_error: Mean gap of confidence and accuracy over the bins, weighted by their cells (ECE).
        bins: The bins that have cells.
        negative_log_likelihood: Mean, in nats.
    """

    n_cells: int
    accuracy: Proportion
    macro_f1: float
    balanced_accuracy: float
    covered_accuracy: Proportion
    coverage: Proportion
    unclassified: Proportion
    classes: tuple[GroupFigures, ...]
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
        truth: int (n,), index of the true group in `CELL_CLASSES`.
        probabilities: float (n, 8), in the order of `CELL_CLASSES`.
        unclassified: bool (n,), cells without a call (`bloodcell.cells.calls.Calls.unclassified`).

    Raises:
        ValueError: Shapes that do not fit, or a truth outside of the groups.
        TrainingDataError: No cells.
    """
    _check(truth, probabilities, unclassified)
    top = probabilities.argmax(axis=1)
    right = top == truth
    n_groups = len(CELL_CLASSES)
    confusion = _counted(truth, top, n_groups)
    called_confusion = _counted(truth, np.where(unclassified, n_groups, top), n_groups + 1)
    classes = _group_figures(confusion, called_confusion)
    present = [cell_class for cell_class in classes if cell_class.n_true]
    bins = _bins(probabilities.max(axis=1), right)
    n_cells, n_unclassified = len(truth), int(unclassified.sum())
    return Evaluation(
        n_cells=n_cells,
        accuracy=proportion(int(right.sum()), n_cells),
        macro_f1=_mean([cell_class.f1 for cell_class in present]),
        balanced_accuracy=_mean([cell_class.sensitivity.value or 0.0 for cell_class in present]),
        covered_accuracy=proportion(int(right[~unclassified].sum()), n_cells - n_unclassified),
        coverage=proportion(n_cells - n_unclassified, n_cells),
        unclassified=proportion(n_unclassified, n_cells),
        classes=classes,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        called_confusion=tuple(tuple(row) for row in called_confusion.tolist()),
        calibration_error=sum(
            abs(each.confidence - each.accuracy.n / each.accuracy.total) * each.accuracy.total / n_cells
            for each in bins
        ),
        bins=bins,
        negative_log_likelihood=_negative_log_likelihood(truth, probabilities),
    )


def _check(truth: NDArray[np.integer], probabilities: NDArray[np.floating], unclassified: NDArray[np.bool_]) -> None:
    n_groups = len(CELL_CLASSES)
    if truth.ndim != 1 or probabilities.shape != (len(truth), n_groups) or unclassified.shape != truth.shape:
        raise ValueError(
            f"Expected truth (n,), probabilities (n, {n_groups}) and unclassified (n,). "
            f"Received: {truth.shape}, {probabilities.shape} and {unclassified.shape}"
        )
    if len(truth) == 0:
        raise TrainingDataError("There are no cells to evaluate on. Expected at least one labelled image.")
    if truth.min() < 0 or truth.max() >= n_groups:
        raise ValueError(f"Expected truth in 0..{n_groups - 1}. Received: {truth.min()}..{truth.max()}")


def _counted(truth: NDArray[np.integer], column: NDArray[np.integer], n_columns: int) -> NDArray[np.int64]:
    n_groups = len(CELL_CLASSES)
    return np.bincount(truth * n_columns + column, minlength=n_groups * n_columns).reshape(n_groups, n_columns)


def _group_figures(confusion: NDArray[np.int64], called_confusion: NDArray[np.int64]) -> tuple[GroupFigures, ...]:
    n_cells = int(confusion.sum())
    hits = np.diag(confusion)
    n_true, n_called = confusion.sum(axis=1), confusion.sum(axis=0)
    true_negatives = n_cells - n_true - n_called + hits
    precision = proportions(hits.tolist(), n_called.tolist())
    sensitivity = proportions(hits.tolist(), n_true.tolist())
    specificity = proportions(true_negatives.tolist(), (n_cells - n_true).tolist())
    called_sensitivity = proportions(np.diag(called_confusion).tolist(), n_true.tolist())
    f1 = 2 * hits / np.maximum(n_true + n_called, 1)
    return tuple(
        GroupFigures(
            cell_class=cell_class,
            n_true=int(n_true[i]),
            precision=precision[i],
            sensitivity=sensitivity[i],
            specificity=specificity[i],
            f1=float(f1[i]),
            called_sensitivity=called_sensitivity[i],
            n_unclassified=int(called_confusion[i, -1]),
        )
        for i, cell_class in enumerate(CELL_CLASSES)
    )


def _bins(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    edges = np.linspace(0, 1, N_BINS + 1)
    # Bins are open below and closed above, as in the source, so that a confidence of 1 falls into the last.
    index = np.clip(np.ceil(confidence.astype(np.float64) * N_BINS).astype(int) - 1, 0, N_BINS - 1)
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


def _negative_log_likelihood(truth: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    # float32 probabilities may round to 0; the floor keeps one such cell from making the mean infinite.
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
