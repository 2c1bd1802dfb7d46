from __future__ import annotations

import numpy as np
import pytest

from bloodcell.cells.metrics import negative_log_likelihood
from bloodcell.training.calibration import NO_CALL, confidence_threshold, fit_temperature, softmax


@pytest.fixture
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """Returns scores that are five times as large as they should be, and labels."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (4000, 8))
    labels = np.array([rng.choice(8, p=row) for row in softmax(honest)])
    return 5.0 * honest, labels


def test_temperature_is_found_and_makes_the_labels_more_likely(overconfident: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = overconfident
    temperature = fit_temperature(scores, labels)
    assert temperature == pytest.approx(5.0, rel=0.1)
    before = negative_log_likelihood(softmax(scores), labels)
    assert negative_log_likelihood(softmax(scores, temperature), labels) < before


def test_the_threshold_is_the_lowest_that_reaches_the_target() -> None:
    confidence = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert confidence_threshold(probabilities, labels, target_risk=0.0, min_coverage=0.5, floor=0.1) == 0.8
    assert confidence_threshold(probabilities, labels, target_risk=0.2, min_coverage=0.5, floor=0.1) == 0.7


def test_the_threshold_never_leaves_less_than_the_minimum_coverage() -> None:
    confidence = np.array([0.95, 0.9, 0.85, 0.8])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    assert confidence_threshold(probabilities, np.ones(4, int), target_risk=0.0, min_coverage=0.75, floor=0.1) == 0.85


def test_the_threshold_is_the_floor_if_all_cells_reach_the_target_and_never_lower() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1]])
    aim = {"target_risk": 0.02, "min_coverage": 0.9}
    assert confidence_threshold(probabilities, np.zeros(2, int), **aim, floor=0.5) == 0.5
    assert confidence_threshold(probabilities, np.ones(2, int), **aim, floor=0.7) == 0.7


def test_if_no_choice_of_cells_reaches_the_target_nothing_is_called() -> None:
    probabilities = np.stack([np.array([0.9, 0.8, 0.7]), np.array([0.1, 0.2, 0.3])], axis=1)
    found = confidence_threshold(probabilities, np.array([1, 0, 0]), target_risk=0.03, min_coverage=0.0, floor=0.5)
    assert found == NO_CALL
    assert not (probabilities.max(axis=1) >= found).any()
