"""The gap between confidence and accuracy beyond chance, with an interval that says whether it is there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bloodcell.evaluation.calibration_interval import calibration_interval


def cells(
    random: np.random.Generator, n_patients: int, n_each: int, *, overconfident: float = 0.0, spread: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Returns cells that are right as often as their confidence says, less `overconfident`, more or less by patient."""
    row = np.repeat(np.arange(n_patients), n_each)
    confidence = random.uniform(0.66, 1.0, len(row))
    odds = np.log(confidence / (1 - confidence)) + random.normal(0, spread, n_patients)[row] if spread else None
    chance = confidence if odds is None else 1 / (1 + np.exp(-odds))
    return confidence, random.random(len(row)) < chance - overconfident, row


@pytest.mark.parametrize(
    ("n_patients", "n_each", "spread", "at_most"),
    [(20, 4, 0.0, 0.05), (40, 5, 0.0, 0.05), (30, 20, 0.0, 0.05), (30, 20, 0.5, 0.1), (50, 30, 1.0, 0.2)],
)
def test_a_calibrated_model_is_hardly_ever_said_to_be_off(
    n_patients: int, n_each: int, spread: float, at_most: float
) -> None:
    random = np.random.default_rng(n_patients * n_each)
    found = [calibration_interval(*cells(random, n_patients, n_each, spread=spread)) for _ in range(200)]
    assert np.mean([each.lower > 0.05 for each in found]) <= at_most


def test_an_overconfident_model_is_found() -> None:
    random = np.random.default_rng(7)
    found = [calibration_interval(*cells(random, 50, 20, overconfident=0.15)) for _ in range(100)]
    assert np.mean([each.lower > 0.05 for each in found]) >= 0.95
    assert np.mean([each.value for each in found]) == pytest.approx(0.15, abs=0.01)


def test_one_patient_says_nothing_about_others() -> None:
    confidence, right, row = cells(np.random.default_rng(1), 1, 300, overconfident=0.4)
    found = calibration_interval(confidence, right, row)
    assert found.value == pytest.approx(0.4, abs=0.06)
    assert (found.lower, found.upper) == (0.0, 1.0)
