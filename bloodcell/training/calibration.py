"""From scores to probabilities one can believe, and the confidence below which a call is not made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TEMPERATURES: Final = (0.01, 100.0)


def softmax(scores: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Returns probabilities (n, k) of scores (n, k) divided by `temperature`."""
    scaled = scores.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def negative_log_likelihood(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Returns the mean of -log(probability of the true class), in nats."""
    true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true, 1e-12)).mean())


def fit_temperature(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Returns the temperature that makes softmax(scores / temperature) most likely on validation cells.

    It leaves the order of the classes as it is and changes only how sure the model says it is.
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
    """Returns the confidence a call needs, read off the risk-coverage curve of validation cells.

    The cells are ordered by confidence. The threshold is the lowest confidence at which the cells from there up have
    at most `target_risk` of errors; where that would leave less than `min_coverage` of the cells, the threshold is
    the one that leaves `min_coverage`. It is `floor` where all cells together keep the target, and never below.
    Source: Geifman and El-Yaniv 2017, Selective Classification for Deep Neural Networks, arXiv:1705.08500.
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    keeping = np.flatnonzero(risk <= target_risk)
    n_kept = max(int(keeping[-1]) + 1 if len(keeping) else 0, int(np.ceil(min_coverage * len(order))))
    return floor if n_kept == len(order) else max(floor, float(confidence[order[n_kept - 1]]))
