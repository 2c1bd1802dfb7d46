"""Sums from drawing all slide buckets at once, compared with the counts that they add up."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell.monitoring.resampling import drawn_sums


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 1_000))
def test_every_draw_is_a_sum_over_as_many_buckets_as_there_are(n_buckets: int, n_columns: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 9, (n_buckets, n_columns)).astype(float)
    marked = np.hstack([counts, np.ones((n_buckets, 1)), np.eye(n_buckets)])
    sums = drawn_sums(marked, n_replicates=50, seed=seed)
    assert (sums[:, n_columns] == n_buckets).all()
    times_drawn = sums[:, n_columns + 1 :]
    assert np.array_equal(times_drawn @ counts, sums[:, :n_columns])


def test_the_same_seed_draws_the_same_buckets_whatever_is_counted_and_however_much_fits_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (30, 3)).astype(float)
    whole = drawn_sums(counts, n_replicates=101, seed=5)
    assert np.array_equal(whole[:, 1:], drawn_sums(counts[:, 1:], n_replicates=101, seed=5))
    assert not np.array_equal(whole, drawn_sums(counts, n_replicates=101, seed=6))
    monkeypatch.setattr("bloodcell.monitoring.resampling._CHUNK_DRAWS", 70)
    assert np.array_equal(whole, drawn_sums(counts, n_replicates=101, seed=5))


def test_memory_grows_with_neither_the_buckets_nor_the_draws() -> None:
    counts = np.ones((50_000, 4))
    tracemalloc.start()
    drawn_sums(counts, n_replicates=200, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20  # all 200 draws of 50,000 at once take 240 MB
