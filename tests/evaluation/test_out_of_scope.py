"""Cells outside of the eight groups, against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from bloodcell.evaluation.out_of_scope import judge_out_of_scope


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
)
def test_auroc_is_scikit_learns_also_with_ties(inside: list[int], outside: list[int]) -> None:
    found = judge_out_of_scope(
        np.array(inside, np.float32), np.array(outside, np.float32), np.zeros(len(outside), bool)
    )
    expected = roc_auc_score([0] * len(inside) + [1] * len(outside), inside + outside)
    assert found.auroc == pytest.approx(expected)
    assert sum(found.holdout) == len(inside)
    assert sum(found.out_of_scope) == len(outside)


def test_share_left_unclassified_has_exact_limits() -> None:
    found = judge_out_of_scope(np.zeros(5), np.ones(30), np.arange(30) < 21).unclassified
    exact = binomtest(21, 30).proportion_ci(0.95, "exact")
    assert (found.value, found.lower, found.upper) == pytest.approx((0.7, exact.low, exact.high))


def test_without_such_cells_there_is_no_auroc_and_no_share() -> None:
    found = judge_out_of_scope(np.arange(5.0), np.zeros(0), np.zeros(0, bool), novelty_threshold=3.0)
    assert found.auroc is None
    assert found.unclassified.value is None
    assert sum(found.holdout) == 5
    assert sum(found.out_of_scope) == 0


def test_novelty_that_is_not_a_number_counts_as_the_strangest() -> None:
    found = judge_out_of_scope(
        np.array([1.0, 2.0, 3.0]), np.array([np.nan, np.inf]), np.ones(2, bool), novelty_threshold=2.5
    )
    assert found.auroc == 1.0
    assert found.out_of_scope[-1] == 2
    assert np.isfinite(found.edges).all()


def test_one_enormous_novelty_does_not_flatten_the_histogram() -> None:
    random = np.random.default_rng(0)
    outside = np.append(random.gamma(5, 1, 40), 1e9)
    found = judge_out_of_scope(random.gamma(3, 1, 1_000), outside, np.ones(41, bool), novelty_threshold=8.0)
    assert found.edges[-1] < 100
    assert found.edges[0] <= 0 <= 8.0 <= found.edges[-1]
    assert sum(found.out_of_scope) == 41


def test_novelty_that_is_all_the_same_still_has_a_histogram() -> None:
    for value in (0.0, 1e12):
        found = judge_out_of_scope(np.full(4, value), np.full(3, value), np.zeros(3, bool))
        assert found.auroc == 0.5
        assert (sum(found.holdout), sum(found.out_of_scope)) == (4, 3)
