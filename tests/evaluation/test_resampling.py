"""Intervals from drawing all patients at once, compared with drawing them one by one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell.cells.intervals import proportion
from bloodcell.cells.metrics import Share
from bloodcell.evaluation.resampling import (
    Interval,
    counts_by_patient,
    difference_interval,
    drawn_sums,
    interval,
    share_interval,
)


def shares(n: list[float], total: list[float]) -> Share:
    return Share(np.array(n, float), np.array(total, float))


def test_cells_are_counted_by_patient() -> None:
    counts = counts_by_patient(np.array([0, 0, 2, 2, 2]), 3, np.array([1, 1, 0, 1, 1]), 2)
    assert counts.tolist() == [[0, 2], [0, 0], [1, 2]]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 1_000))
def test_every_draw_is_a_sum_over_as_many_patients_as_there_are(n_patients: int, n_columns: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 9, (n_patients, n_columns)).astype(float)
    marked = np.hstack([counts, np.ones((n_patients, 1)), np.eye(n_patients)])
    sums = drawn_sums(marked, n_replicates=50, seed=seed)
    assert (sums[:, n_columns] == n_patients).all()
    times_drawn = sums[:, n_columns + 1 :]
    assert np.array_equal(times_drawn @ counts, sums[:, :n_columns])


def test_the_same_seed_draws_the_same_patients_whatever_is_counted_and_however_much_fits_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (30, 3)).astype(float)
    whole = drawn_sums(counts, n_replicates=101, seed=5)
    assert np.array_equal(whole[:, 1:], drawn_sums(counts[:, 1:], n_replicates=101, seed=5))
    assert not np.array_equal(whole, drawn_sums(counts, n_replicates=101, seed=6))
    monkeypatch.setattr("bloodcell.evaluation.resampling._CHUNK_DRAWS", 70)
    assert np.array_equal(whole, drawn_sums(counts, n_replicates=101, seed=5))


def test_intervals_equal_those_of_patients_drawn_one_by_one() -> None:
    random = np.random.default_rng(3)
    total = random.integers(5, 60, 25)
    right = random.binomial(total, random.beta(8, 2, 25))
    counts = np.stack([right, total], axis=1).astype(float)
    sums = np.vstack([counts.sum(axis=0), drawn_sums(counts, n_replicates=4_000, seed=1)])
    found = share_interval(Share(sums[:, 0], sums[:, 1]), Share(counts[:, 0], counts[:, 1]))
    assert found is not None
    naive = []
    for _ in range(4_000):
        picked = random.choice(25, 25)
        naive.append(right[picked].sum() / total[picked].sum())
    assert found.value == right.sum() / total.sum()
    assert (found.lower, found.upper) == pytest.approx(np.percentile(naive, (2.5, 97.5)), abs=0.006)
    # cells of a patient resemble each other here, and intervals that treat them as independent would be narrower
    exact = proportion(int(right.sum()), int(total.sum()))
    assert exact.lower is not None
    assert exact.upper is not None
    assert found.upper - found.lower > 1.3 * (exact.upper - exact.lower)


def test_intervals_contain_the_true_share_about_as_often_as_they_should() -> None:
    random = np.random.default_rng(11)
    held = 0
    for seed in range(200):
        right = random.binomial(20, random.beta(16, 4, 40))
        counts = np.stack([right, np.full(40, 20)], axis=1).astype(float)
        sums = np.vstack([counts.sum(axis=0), drawn_sums(counts, n_replicates=400, seed=seed)])
        found = interval(sums[:, 0] / sums[:, 1], n_patients=40)
        held += found.lower <= 0.8 <= found.upper
    assert 180 <= held <= 199


def test_one_patient_says_nothing_about_others() -> None:
    values = np.full(11, 0.75)
    assert interval(values, n_patients=1) == Interval(0.75, 0.0, 1.0)
    assert interval(values, n_patients=1, lowest=-1.0) == Interval(0.75, -1.0, 1.0)
    assert share_interval(shares([3.0] * 11, [4.0] * 11), shares([3, 0], [4, 0])) == Interval(0.75, 0.0, 1.0)


def test_a_total_of_zero_has_no_interval() -> None:
    nothing, something = shares([0] * 5, [0] * 5), shares([1] * 5, [2] * 5)
    assert share_interval(nothing, shares([0, 0], [0, 0])) is None
    for a, b in ((nothing, something), (something, nothing), (nothing, nothing)):
        assert difference_interval(a, b, shares([0], [0]), shares([0], [0])) is None


def test_a_difference_of_shares_is_exact_to_the_last_digit() -> None:
    found = difference_interval(
        shares([396, 390], [400, 400]), shares([400, 390], [400, 390]), shares([1, 1], [1, 1]), shares([1, 1], [1, 1])
    )
    assert found == Interval(-0.01, -0.025, -0.025)
    assert 396 / 400 - 400 / 400 != -0.01


def test_draws_in_which_the_figure_does_not_exist_are_left_out() -> None:
    values = np.array([0.5, np.nan, 0.2, 0.8, np.nan])
    found = interval(values, n_patients=4)
    assert (found.lower, found.upper) == pytest.approx((0.2 + 0.025 * 0.6, 0.8 - 0.025 * 0.6))


@pytest.mark.parametrize("n", [0, 12])
def test_a_share_of_none_or_all_has_an_exact_interval_because_draws_have_no_width(n: int) -> None:
    found = share_interval(shares([n] * 9, [12] * 9), shares([n / 3] * 3, [4] * 3))
    exact = proportion(n, 12)
    assert exact.lower is not None
    assert exact.upper is not None
    assert found == Interval(n / 12, exact.lower, exact.upper)
    assert found.upper - found.lower > 0.2


def test_memory_grows_with_neither_the_cells_nor_the_draws() -> None:
    counts = np.ones((50_000, 4))
    tracemalloc.start()
    drawn_sums(counts, n_replicates=200, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20  # all 200 draws of 50,000 at once take 240 MB
