"""Figures from counted outcomes, and the likelihood with its floor."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell.cells.metrics import (
    N_OUTCOMES,
    Share,
    confusion_of,
    figures_of,
    macro_sensitivity,
    negative_log_likelihood,
    outcomes,
)


def counted(truth: list[int], top: list[int], unclassified: list[bool]) -> np.ndarray:
    flat = outcomes(np.array(truth), np.array(top), np.array(unclassified))
    return np.bincount(flat, minlength=N_OUTCOMES)


def test_confusion_matrices_separate_unclassified_cells() -> None:
    confusion, called = confusion_of(counted([0, 0, 0, 1], [0, 0, 1, 1], [False, True, False, False]))
    assert confusion[:2, :2].tolist() == [[2, 1], [0, 1]]
    assert called[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert called.shape == (8, 9)
    assert confusion.sum() == called.sum() == 4


def test_figures_of_two_counts_at_once_are_those_of_each() -> None:
    one = counted([0, 0, 1], [0, 1, 1], [False, False, False])
    other = counted([2, 2], [2, 3], [False, True])
    both = figures_of(np.stack([one, other]).astype(float))
    for row, alone in enumerate((one, other)):
        figures = figures_of(alone[None].astype(float))
        assert figures.macro_f1[0] == both.macro_f1[row]
        assert figures.accuracy.value[0] == both.accuracy.value[row]
    assert both.covered_accuracy.value.tolist() == [2 / 3, 1.0]
    assert both.sensitivity.value[0, :2].tolist() == [0.5, 1.0]
    assert both.precision.value[0, :2].tolist() == [1.0, 0.5]
    assert both.specificity.value[0, :2].tolist() == [1.0, 0.5]
    assert np.isnan(both.sensitivity.value[0, 7])


def test_macro_sensitivity_leaves_out_classes_that_do_not_occur() -> None:
    assert macro_sensitivity(np.array([1, 0, 3]), np.array([2, 0, 3])) == 0.75


def test_a_share_without_a_total_is_nan_and_does_not_exist() -> None:
    share = Share(np.array([1.0, 0.0]), np.array([4.0, 0.0]))
    assert share.value[0] == 0.25
    assert np.isnan(share.value[1])
    assert share.n_existing == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_of_zero_counts_as_the_smallest_float32(dtype: type[np.floating]) -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]], dtype)
    floor = -np.log(np.finfo(np.float32).tiny.astype(np.float64))
    found = negative_log_likelihood(probabilities, np.array([1, 0]))
    assert found == pytest.approx((floor + np.log(2)) / 2)
