"""The temperature that makes a model's probabilities match its accuracy, and the confidence that a call needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.metrics import negative_log_likelihood

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_CALL: Final = 2.0
"""A confidence that no cell reaches: every cell is left unclassified."""

_TEMPERATURES: Final = (0.01, 100.0)


def softmax(scores: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Returns probabilities (n, k) of scores (n, k) divided by `temperature`."""
    scaled = scores.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def class_probabilities(scores: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Returns the probabilities (n, 8) of the cell classes, without that of no class, which may follow in the scores.

    Args:
        scores: float (n, k), k at least 8, in the order of `CELL_CLASSES`.
        temperature: Divisor of the scores.
    """
    return softmax(scores, temperature)[:, : len(CELL_CLASSES)]


def fit_temperature(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Returns the temperature at which softmax(scores / temperature) gives validation labels the highest likelihood.

    A temperature does not change the order of the classes, only the model's confidence.

    Args:
        scores: float (n, k).
        labels: int (n,), the true classes.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(scores, float(np.exp(log_temperature))), labels)

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def confidence_threshold(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    target_risk: float,
    min_coverage: float,
    floor: float,
) -> float:
    """Returns the confidence that a call needs, read from the risk-coverage curve of validation cells.

    The cells are ordered by confidence. The threshold is the lowest confidence at which at most a share `target_risk`
    of the cells at or above it is wrong. If that would leave less than `min_coverage` of the cells, the threshold is
    the confidence that leaves `min_coverage`. It is `floor` if all cells together reach the target, and never lower.
    If nothing reaches the target and nothing has to be left, it is `NO_CALL`.

    Args:
        probabilities: float (n, k), calibrated.
        labels: int (n,), the true classes.
        target_risk: Intended share of errors among the calls, in 0..1.
        min_coverage: Share of the cells that keep their call whatever the risk, in 0..1.
        floor: Lowest threshold.

    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks, arXiv:1705.08500.
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    keeping = np.flatnonzero(risk <= target_risk)
    n_kept = max(int(keeping[-1]) + 1 if len(keeping) else 0, int(np.ceil(min_coverage * len(order))))
    if n_kept == 0:
        return NO_CALL
    return floor if n_kept == len(order) else max(floor, float(confidence[order[n_kept - 1]]))
