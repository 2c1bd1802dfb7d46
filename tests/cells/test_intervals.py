"""Exact confidence intervals of proportions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from bloodcell.cells.intervals import exact_interval, proportion, proportions


@pytest.mark.parametrize(
    ("percent", "n", "lower", "upper"),
    [
        (1, 100, 0.0, 5.4),
        (1, 200, 0.1, 3.6),
        (1, 400, 0.3, 2.5),
        (5, 100, 1.6, 11.3),
        (5, 200, 2.4, 9.0),
        (5, 400, 3.1, 7.6),
        (10, 100, 4.9, 17.6),
        (10, 200, 6.2, 15.0),
        (10, 400, 7.2, 13.4),
        (50, 100, 39.8, 60.2),
        (50, 200, 42.9, 57.1),
        (50, 400, 45.0, 55.0),
    ],
)
def test_intervals_are_those_of_ruemkes_table(percent: int, n: int, lower: float, upper: float) -> None:
    interval = proportion(percent * n // 100, n).percentage_interval
    assert interval is not None
    assert (round(interval[0], 1), round(interval[1], 1)) == (lower, upper)


def test_intervals_equal_scipys_exact_binomial_for_every_count() -> None:
    for total in (1, 2, 7, 113):
        lower, upper = exact_interval(np.arange(total + 1), np.array(total))
        for n in range(total + 1):
            expected = binomtest(n, total).proportion_ci(0.95, method="exact")
            assert lower[n] == pytest.approx(expected.low, abs=1e-10)
            assert upper[n] == pytest.approx(expected.high, abs=1e-10)


def test_a_total_of_zero_gives_no_value_and_no_interval() -> None:
    nothing = proportion(0, 0)
    assert (nothing.value, nothing.lower, nothing.upper) == (None, None, None)
    assert nothing.percentage is None
    assert nothing.percentage_interval is None


def test_no_counts_give_no_proportions() -> None:
    assert proportions([], []) == ()


@pytest.mark.parametrize(("n", "total"), [(-1, 3), (4, 3)])
def test_a_count_larger_than_its_total_or_negative_is_refused(n: int, total: int) -> None:
    with pytest.raises(ValueError, match="0 <= counts <= totals"):
        proportion(n, total)
