"""Cells that are out of scope; the figures are compared with scikit-learn's and scipy's."""

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
def test_auroc_equals_scikit_learns_even_with_ties(known: list[int], unknown: list[int]) -> None:
    found = judge_out_of_scope(np.array(known, np.float32), np.array(unknown, np.float32), np.zeros(len(unknown), bool))
    expected = roc_auc_score([0] * len(known) + [1] * len(unknown), known + unknown)
    assert found.auroc == pytest.approx(expected)
    assert sum(found.holdout) == len(known)
    assert sum(found.out_of_scope) == len(unknown)


def test_the_share_left_unclassified_has_an_exact_interval() -> None:
    found = judge_out_of_scope(np.zeros(5), np.ones(30), np.arange(30) < 21).unclassified
    exact = binomtest(21, 30).proportion_ci(0.95, "exact")
    assert (found.value, found.lower, found.upper) == pytest.approx((0.7, exact.low, exact.high))


def test_without_such_cells_there_is_no_auroc_and_no_share() -> None:
    found = judge_out_of_scope(np.arange(5.0), np.zeros(0), np.zeros(0, bool), novelty_threshold=3.0)
    assert found.auroc is None
    assert found.unclassified.value is None
    assert sum(found.holdout) == 5
    assert sum(found.out_of_scope) == 0


def test_novelty_of_nan_counts_as_the_highest() -> None:
    found = judge_out_of_scope(
        np.array([1.0, 2.0, 3.0]), np.array([np.nan, np.inf]), np.ones(2, bool), novelty_threshold=2.5
    )
    assert found.auroc == 1.0
    assert found.out_of_scope[-1] == 2
    assert np.isfinite(found.edges).all()


def test_one_extreme_novelty_does_not_flatten_the_histogram() -> None:
    random = np.random.default_rng(0)
    unknown = np.append(random.gamma(5, 1, 40), 1e9)
    found = judge_out_of_scope(random.gamma(3, 1, 1_000), unknown, np.ones(41, bool), novelty_threshold=8.0)
    assert found.edges[-1] < 100
    assert found.edges[0] <= 0 <= 8.0 <= found.edges[-1]
    assert sum(found.out_of_scope) == 41


def test_equal_novelties_still_have_a_histogram() -> None:
    for value in (0.0, 1e12):
        found = judge_out_of_scope(np.full(4, value), np.full(3, value), np.zeros(3, bool))
        assert found.auroc == 0.5
        assert (sum(found.holdout), sum(found.out_of_scope)) == (4, 3)
