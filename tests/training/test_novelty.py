from __future__ import annotations

import numpy as np
import pytest

from bloodcell.training.novelty import Novelty, fit_embedding, novelty_threshold, with_evidence

Clusters = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def clusters() -> Clusters:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 2000)
    middles = rng.normal(0, 8, (3, 6))
    mixing = np.eye(6) + rng.normal(0, 0.3, (6, 6))
    return middles[labels] + rng.normal(0, 1, (6000, 6)) @ mixing, labels


def test_novelty_is_the_distance_to_the_nearest_class_minus_most_of_that_to_all_cells(
    clusters: Clusters,
) -> None:
    features, labels = clusters
    embedding = fit_embedding(features, labels, 6)
    means = np.stack([features[labels == each].mean(axis=0) for each in range(3)])
    within = np.cov((features - means[labels]).T, bias=True)
    gaps, middle = features[:, None] - means[None], means.mean(axis=0)
    of_classes = np.einsum("nki,ij,nkj->nk", gaps, np.linalg.inv(within), gaps).min(axis=1)
    whole = np.linalg.inv(within + np.cov(means.T, bias=True))
    of_all = np.einsum("ni,ij,nj->n", features - middle, whole, features - middle)
    raised = embedding.distance(features).astype(np.float64) ** 2 - (of_classes - 0.95 * of_all)
    np.testing.assert_allclose(raised, raised.mean(), atol=0.5)  # values range from 0 to 20; the rest is shrinkage
    assert embedding.offsets.min() == 0


def test_variation_within_every_class_is_hardly_novel_and_a_cell_between_classes_is(
    clusters: Clusters,
) -> None:
    features, labels = clusters
    embedding = fit_embedding(features, labels, 6)
    means = np.stack([features[labels == each].mean(axis=0) for each in range(3)])
    across = np.linalg.svd(means - means.mean(axis=0))[2][-1]  # no two classes differ along it
    threshold = novelty_threshold(embedding.distance(features), 0.03)
    between = (means[0] + means[1]) / 2
    assert embedding.distance(between[None])[0] > 2 * threshold
    assert embedding.distance((means[0] + 4 * across)[None])[0] < threshold


def test_a_cell_unlike_all_classes_is_far_and_known_ones_are_near(clusters: Clusters) -> None:
    features, labels = clusters
    embedding = fit_embedding(features, labels, 4)
    threshold = novelty_threshold(embedding.distance(features), 0.03)
    assert 0.02 < (embedding.distance(features) > threshold).mean() <= 0.03
    stranger = features.mean(axis=0) + 60 * np.std(features, axis=0)
    assert embedding.distance(stranger[None])[0] > 3 * threshold


def test_constant_features_and_few_cells_give_an_embedding() -> None:
    rng = np.random.default_rng(0)
    features = np.hstack([rng.normal(size=(16, 40)), np.zeros((16, 5))])
    embedding = fit_embedding(features, np.repeat(np.arange(8), 2), 64)
    assert embedding.kernel.shape == (45, 15)
    assert np.isfinite(embedding.distance(features)).all()


def test_a_cell_that_no_class_claims_is_more_novel_than_its_distance_says(clusters: Clusters) -> None:
    features, labels = clusters
    embedding = fit_embedding(features, labels, 6)
    scores = np.where(np.arange(8) == labels[:, None], 1.0, -1.0) + np.random.default_rng(1).normal(0, 0.05, (6000, 8))
    unlike = with_evidence(embedding, features, scores, 0.25, 1.0)
    threshold = novelty_threshold(unlike.of(features, scores), 0.03)
    unclaimed = np.full((1, 8), -0.7)
    assert unlike.of(features[:1], unclaimed)[0] > threshold > unlike.of(features[:1], scores[:1])[0]
    assert embedding.distance(features[:1])[0] < threshold


def test_distance_and_evidence_spread_as_widely_over_validation_cells(clusters: Clusters) -> None:
    features, labels = clusters
    embedding = fit_embedding(features, labels, 6)
    scores = np.random.default_rng(1).normal(0, 1, (6000, 9))
    added = with_evidence(embedding, features, scores, 2.0, 1.0).of(features, scores) - embedding.distance(features)

    def tail(values: np.ndarray) -> float:
        return float(np.quantile(values, 0.9) - np.median(values))

    assert tail(added) == pytest.approx(tail(embedding.distance(features)), rel=0.05)
    assert np.median(added) == pytest.approx(0, abs=0.05)


def test_without_a_share_for_the_evidence_novelty_is_the_distance(clusters: Clusters) -> None:
    features, labels = clusters
    embedding = fit_embedding(features, labels, 6)
    scores = np.random.default_rng(1).normal(0, 1, (6000, 8))
    for unlike in (Novelty(embedding), with_evidence(embedding, features, scores, 1.0, 0.0)):
        np.testing.assert_array_equal(unlike.of(features, scores), embedding.distance(features))


def test_no_class_does_not_count_as_evidence(clusters: Clusters) -> None:
    features, labels = clusters
    unlike = Novelty(fit_embedding(features, labels, 6), evidence_weight=1.0)
    scores = np.zeros((1, 9))
    claimed_by_none = scores + np.where(np.arange(9) == 8, 50.0, 0.0)
    assert unlike.of(features[:1], scores)[0] == unlike.of(features[:1], claimed_by_none)[0]
