"""Distances are about 0 where nothing has drifted, whatever the number of cells, and grow with the drift."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell.monitoring.drift import class_weights, decile_edges, mix_drift, value_drift
from bloodcell.monitoring.embedding_drift import embedding_drift

SMEAR = np.array([1, 3, 1, 2, 27, 7, 54, 5]) / 100


def nights(rng: np.random.Generator, slides: int, shares: np.ndarray = SMEAR) -> np.ndarray:
    """Returns class counts of slides whose patients differ as real patients do."""
    return np.stack([rng.multinomial(120, rng.dirichlet(shares * 10)) for _ in range(slides)])


def test_the_index_of_a_class_mix_is_siddiqis_minus_its_mean_under_chance() -> None:
    expected, counts = np.array([500, 500]), np.array([[30, 20], [30, 20]])
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5) = 0.0405; chance adds 1/1000 + 1/100
    assert mix_drift(expected, counts).measured == pytest.approx(0.0405 - 0.011, abs=1e-3)


@pytest.mark.parametrize("slides", [8, 20, 64])
def test_other_patients_are_not_drift_but_another_clinic_is(slides: int) -> None:
    rng = np.random.default_rng(0)
    sick = np.array([1, 2, 8, 10, 50, 9, 15, 5]) / 100
    same = [mix_drift(nights(rng, 40).sum(axis=0), nights(rng, slides)) for _ in range(40)]
    other = [mix_drift(nights(rng, 40).sum(axis=0), nights(rng, slides, sick)) for _ in range(40)]
    assert sum(drift.lower > 0.25 for drift in same) <= 1
    assert sum(drift.lower > 0.25 for drift in other) >= 36
    assert all(drift.lower <= drift.measured <= drift.upper for drift in same + other)


def test_few_cells_alone_are_not_drift() -> None:
    rng = np.random.default_rng(1)
    measured = [mix_drift(np.full(8, 200), rng.multinomial(8, np.full(8, 1 / 8), size=6)).measured for _ in range(200)]
    assert np.mean(measured) == pytest.approx(0, abs=0.05)  # the uncorrected index is 0.15 here


def test_the_reference_is_weighted_to_the_classes_of_the_nights() -> None:
    top = np.repeat([0, 4, 6], [40, 40, 5])
    weights = class_weights(top, np.array([10, 0, 0, 0, 90, 300, 700, 0]))
    assert weights.sum() == pytest.approx(1)
    assert weights[top == 0].sum() == pytest.approx(0.1)
    # too few neutrophils and no monocytes in the reference, so neither class is compared
    assert set(weights[top == 6]) == {0.0}
    assert class_weights(top, np.full(8, 3)).sum() == 0


def test_deciles_each_have_a_tenth_of_the_weight_and_no_edge_twice() -> None:
    values, weights = np.arange(100, dtype=np.float32), np.full(100, 0.01)
    assert decile_edges(values, weights).tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert decile_edges(np.ones(100, np.float32), weights).tolist() == [1]


def test_falling_confidence_is_detected_even_if_the_class_mix_changes() -> None:
    rng = np.random.default_rng(2)
    top = np.repeat([4, 6], 200)
    # lymphocytes are called with less confidence than neutrophils
    values = np.concatenate([rng.beta(6, 2, 200), rng.beta(30, 2, 200)]).astype(np.float32)
    weights = class_weights(top, np.array([0, 0, 0, 0, 900, 0, 100, 0]))
    edges = decile_edges(values, weights)

    def counted(*parts: np.ndarray) -> np.ndarray:
        bins = np.searchsorted(edges, np.concatenate(parts), side="right")
        classes = np.arange(len(bins)) % 10
        counts = np.zeros((10, len(edges) + 1), np.int64)
        np.add.at(counts, (classes, bins), 1)
        return counts

    alike = value_drift(values, weights, edges, counted(rng.beta(6, 2, 900), rng.beta(30, 2, 100)))
    sunk = value_drift(values, weights, edges, counted(rng.beta(3, 2, 900), rng.beta(15, 2, 100)))
    assert alike is not None
    assert sunk is not None
    assert abs(alike.measured) < 0.08
    assert sunk.lower > 0.25


def cells(rng: np.random.Generator, shares: np.ndarray, n: int, shift: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings of distinct classes, with unit variance within each, and their classes."""
    top = rng.choice(8, n, p=shares)
    centres = 3 * np.eye(8, 16)[top]
    return (centres + rng.normal(size=(n, 16)) + shift).astype(np.float32), top


def test_embeddings_are_compared_within_classes_and_drift_with_the_images() -> None:
    rng = np.random.default_rng(3)
    reference, known = cells(rng, np.full(8, 1 / 8), 512)
    classes = np.arange(400) % 12
    same, other_mix, shifted = (
        embedding_drift(reference, known, *cells(rng, shares, 400, shift), classes)
        for shares, shift in ((np.full(8, 1 / 8), 0), (SMEAR, 0), (SMEAR, 0.5))
    )
    assert same[0] is not None
    assert other_mix[0] is not None
    assert shifted[0] is not None
    assert abs(same[0].measured) < 0.005
    assert abs(other_mix[0].measured) < 0.005
    assert shifted[0].lower > 0.03
    assert set(shifted[1]) >= {"neutrophil", "lymphocyte"}
    assert "basophil" not in other_mix[1]  # four cells are too few


def test_the_estimate_is_unbiased_and_reproducible() -> None:
    rng = np.random.default_rng(4)
    even = np.full(8, 1 / 8)
    found = [embedding_drift(*cells(rng, even, 128), *cells(rng, even, 128), np.arange(128) % 8) for _ in range(30)]
    measured = [drift.measured for drift, _ in found if drift]
    assert len(measured) == 30
    assert np.mean(measured) == pytest.approx(0, abs=3 * np.std(measured) / np.sqrt(30))
    given = (*cells(rng, even, 128), *cells(rng, even, 128), np.arange(128) % 8)
    assert embedding_drift(*given) == embedding_drift(*given)


def test_embeddings_without_a_class_to_compare_have_no_drift() -> None:
    rng = np.random.default_rng(5)
    reference, known = cells(rng, np.full(8, 1 / 8), 24)
    assert embedding_drift(reference, known, *cells(rng, SMEAR, 100), np.arange(100) % 5) == (None, {})
