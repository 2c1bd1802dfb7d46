"""The line of Passing and Bablok: the properties that its authors prove, and its error rate."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell.evaluation.passing_bablok import MIN_POINTS, passing_bablok


def test_points_on_a_line_give_that_line() -> None:
    x = np.arange(20.0)
    line = passing_bablok(x, 3 + 1.5 * x)
    assert line is not None
    assert (line.slope, line.intercept) == (pytest.approx(1.5), pytest.approx(3))
    assert not line.agrees


def test_exchanging_the_methods_inverts_the_slope() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(5, 60, 41)
    x, y = truth + rng.normal(0, 3, 41), 1.2 * truth + rng.normal(0, 3, 41)
    one, other = passing_bablok(x, y), passing_bablok(y, x)
    assert one is not None and other is not None
    assert one.slope == pytest.approx(1 / other.slope, rel=1e-4)
    assert one.slope_lower == pytest.approx(1 / other.slope_upper, rel=1e-9)


def test_a_few_wild_points_do_not_move_the_line() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(5, 60, 40)
    y = x + rng.normal(0, 1, 40)
    y[:4] += 40
    line = passing_bablok(x, y)
    assert line is not None
    assert line.agrees
    assert line.slope == pytest.approx(1, abs=0.05)


def test_the_interval_of_the_slope_covers_it_in_nineteen_of_twenty_studies() -> None:
    rng = np.random.default_rng(3)
    n_covered = 0
    for _ in range(400):
        truth = rng.uniform(10, 70, 40)
        line = passing_bablok(truth + rng.normal(0, 3, 40), truth + rng.normal(0, 3, 40))
        assert line is not None
        n_covered += line.slope_lower <= 1 <= line.slope_upper
    assert 0.92 < n_covered / 400 <= 1


def test_too_few_or_constant_points_give_no_line() -> None:
    x = np.arange(float(MIN_POINTS - 1))
    assert passing_bablok(x, x) is None
    assert passing_bablok(np.zeros(30), np.arange(30.0)) is None
    assert passing_bablok(np.zeros(30), np.zeros(30)) is None
