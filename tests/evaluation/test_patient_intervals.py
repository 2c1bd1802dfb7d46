"""Intervals over patients contain the truth about as often as they say, also for few patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from bloodcell.cells.intervals import proportion
from bloodcell.cells.metrics import Share
from bloodcell.evaluation.patient_intervals import (
    Change,
    Interval,
    counts_by_patient,
    difference_interval,
    figure_interval,
    paired_interval,
    share_interval,
)


def share(n: list[float], total: list[float]) -> Share:
    return Share(np.array(n, float), np.array(total, float))


def drawn(random: np.random.Generator, n_patients: int, n_cells: int, value: float, spread: float) -> Share:
    """Returns patients whose own shares are spread around `value`."""
    own = random.beta(value / spread, (1 - value) / spread, n_patients)
    return Share(random.binomial(n_cells, own).astype(float), np.full(n_patients, float(n_cells)))


def test_cells_are_counted_by_patient() -> None:
    counts = counts_by_patient(np.array([0, 0, 2, 2, 2]), 3, np.array([1, 1, 0, 1, 1]), 2)
    assert counts.tolist() == [[0, 2], [0, 0], [1, 2]]


@pytest.mark.parametrize("n_patients", [5, 10, 25, 100])
def test_the_interval_of_a_share_contains_the_truth_as_often_as_it_says(n_patients: int) -> None:
    random, missed = np.random.default_rng(n_patients), 0
    for _ in range(1_000):
        found = share_interval(drawn(random, n_patients, 60, 0.9, 0.05))
        assert found is not None
        missed += not found.lower <= 0.9 <= found.upper
    assert 15 <= missed <= 85  # 50 of 1,000; binomial alone would miss several hundred


@pytest.mark.parametrize("sizes", [(100, 30, 10, 1, 1, 1, 1, 1, 1, 1), (10,) * 10])
def test_the_interval_holds_for_patients_with_most_of_the_cells_and_for_patients_who_differ_much(
    sizes: tuple[int, ...],
) -> None:
    random, below, above = np.random.default_rng(8), 0, 0
    for _ in range(2_000):
        own = random.beta(0.9 / 0.25, 0.1 / 0.25, len(sizes))
        found = share_interval(share(random.binomial(sizes, own).tolist(), list(sizes)))
        assert found is not None
        below += found.upper < 0.9
        above += found.lower > 0.9
    assert below <= 80
    assert above <= 130  # 2.5 % are 50: next to 1, where the share cannot rise, it is somewhat more


def test_cells_of_a_patient_that_resemble_each_other_widen_the_interval() -> None:
    alike = share_interval(share([20, 20, 20, 20, 0], [20] * 5))
    mixed = share_interval(share([16] * 5, [20] * 5))
    assert alike is not None
    assert mixed is not None
    assert alike.value == mixed.value == 0.8
    assert alike.upper - alike.lower > 2 * (mixed.upper - mixed.lower)


def test_one_cell_of_each_patient_gives_the_exact_binomial_interval() -> None:
    found, exact = share_interval(share([1.0] * 52 + [0.0] * 8, [1.0] * 60)), proportion(52, 60)
    assert found is not None
    assert exact.lower is not None
    assert exact.upper is not None
    assert (found.lower, found.upper) == pytest.approx((exact.lower, exact.upper), abs=0.003)


@pytest.mark.parametrize("n", [0, 20])
def test_a_share_of_none_or_all_has_an_interval_with_a_width(n: int) -> None:
    found = share_interval(share([n] * 3, [20] * 3))
    assert found is not None
    assert found.value == n / 20
    assert found.upper - found.lower > 0.1


def test_one_patient_says_nothing_about_others() -> None:
    assert share_interval(share([3, 0], [4, 0])) == Interval(0.75, 0.0, 1.0)
    assert figure_interval(0.75, np.array([np.nan]), n_effective=1) == Change(0.75, 0.0, 1.0, 0.0, 1.0)
    assert difference_interval(share([3], [4]), share([4], [4])) == Change(-0.25, -1.0, 1.0, -1.0, 1.0)


def test_a_total_of_zero_has_no_interval() -> None:
    nothing, something = share([0] * 5, [0] * 5), share([1] * 5, [2] * 5)
    assert share_interval(nothing) is None
    for a, b in ((nothing, something), (something, nothing), (nothing, nothing)):
        assert difference_interval(a, b) is None


def test_a_difference_of_shares_is_exact_to_the_last_digit() -> None:
    found = difference_interval(share([196, 200], [200, 200]), share([200, 200], [200, 200]))
    assert found is not None
    assert found.value == -0.01
    assert 396 / 400 - 400 / 400 != -0.01


def test_the_interval_of_a_difference_contains_the_truth_as_often_as_it_says() -> None:
    random, missed, unlikely = np.random.default_rng(3), 0, 0
    for _ in range(1_000):
        a, b = drawn(random, 12, 40, 0.85, 0.05), drawn(random, 12, 40, 0.85, 0.05)
        found = difference_interval(a, b)
        assert found is not None
        missed += not found.lower <= 0 <= found.upper
        unlikely += found.likely_to < 0
    assert 20 <= missed <= 85
    assert 60 <= unlikely <= 140  # a tenth: one-sided at 90 %


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400))
def test_the_paired_interval_is_where_the_score_test_stops_to_reject(only_a: int, only_b: int, both: int) -> None:
    n_cells = only_a + only_b + both
    if not n_cells:
        return
    lower, upper = paired_interval(only_a, only_b, n_cells)
    value = (only_a - only_b) / n_cells
    assert -1 <= lower <= value <= upper <= 1
    mirrored = paired_interval(only_b, only_a, n_cells)
    assert (lower, upper) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-9)
    if not only_a and not only_b:
        z = norm.ppf(0.975)
        assert upper == pytest.approx(z**2 / (n_cells + z**2), abs=1e-6)  # Tango 1998, without discordant cells


def test_the_paired_interval_is_wider_for_fewer_cells() -> None:
    widths = [paired_interval(0, 0, n)[1] for n in (40, 400, 4_000)]
    assert widths == pytest.approx([0.0876, 0.0095, 0.00096], rel=0.01)
