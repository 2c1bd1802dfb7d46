from __future__ import annotations

import keras
import numpy as np
import pytest

from bloodcell.registry.recipes import SvmSearch
from bloodcell.training.svm import SvmChoice, decision_layers, fit, search

Blobs = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    """Returns features of eight classes; one is constant, and their scales differ widely, as with averaged maps."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 30)
    features = rng.normal(0, 2, (8, 50))[labels] + rng.normal(0, 1.5, (240, 50))
    features = np.abs(features) * np.geomspace(0.1, 10, 50)
    features[:, 7] = 0.25
    return features.astype(np.float32), labels


@pytest.mark.parametrize("max_components", [None, 20])
@pytest.mark.parametrize(("gamma", "cost"), [(0.1, 1.0), (0.02, 100.0), (1.0, 10_000.0)])
def test_decision_in_the_graph_equals_that_of_scikit_learn(
    blobs: Blobs, gamma: float, cost: float, max_components: int | None
) -> None:
    features, labels = blobs
    options = SvmSearch(max_components=max_components, landmarks=100)
    pipeline = fit(features, labels, SvmChoice(gamma, cost), options)
    assert pipeline.named_steps["landmarks"].components_.shape == (100, max_components or 50)
    rows = keras.Input((features.shape[1],))
    model = keras.Model(rows, decision_layers(pipeline, rows))
    unseen = np.abs(features + np.random.default_rng(1).normal(0, 0.1, features.shape)).astype(np.float32)
    for received in (features, unseen):
        expected = pipeline.decision_function(received)
        assert expected.shape == (240, 8)
        np.testing.assert_allclose(model.predict_on_batch(received), expected, atol=1e-4)


def test_the_decision_is_that_of_least_squares_in_the_space_of_the_kernel(blobs: Blobs) -> None:
    """With every row as a landmark, it is kernel ridge regression with a free intercept, solved here in one system."""
    features, labels = blobs
    pipeline = fit(features, labels, SvmChoice(0.1, 10.0), SvmSearch())
    gamma = pipeline.named_steps["landmarks"].gamma
    rows = pipeline.named_steps["axes"].transform(features.astype(np.float64))
    squares = np.square(rows[:, None] - rows[None]).sum(axis=2)
    kernel, n = np.exp(-gamma * squares), len(rows)
    system = np.block([[kernel + np.eye(n) / 10.0, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    targets = np.where(np.eye(8)[labels] > 0, 1.0, -1.0)
    solved = np.linalg.solve(system, np.vstack([targets, np.zeros((1, 8))]))
    np.testing.assert_allclose(pipeline.decision_function(features), kernel @ solved[:n] + solved[n], atol=2e-2)


def test_search_finds_the_gamma_that_the_classes_need() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 2))
    labels = (np.linalg.norm(rows, axis=1) > 1.2).astype(int)
    options = SvmSearch(gammas=(1e-6, 1.0), costs=(1.0, 10.0), folds=3)
    folds: list[tuple[int, int]] = []
    choice = search(rows, labels, options, 0, lambda done, total: folds.append((done, total)))
    assert choice.gamma == 1.0
    assert choice.macro_sensitivity is not None
    assert choice.macro_sensitivity > 0.9
    assert folds == [(1, 3), (2, 3), (3, 3)]


def test_search_is_repeatable_and_uses_no_more_images_than_the_maximum(blobs: Blobs) -> None:
    features, labels = blobs
    options = SvmSearch(costs=(1.0, 10.0), folds=3, max_images=96)
    one, other = (search(features, labels, options, 5, lambda *_: None) for _ in range(2))
    assert one == other


def test_with_too_few_images_for_folds_the_first_choice_is_taken(blobs: Blobs) -> None:
    features, labels = blobs
    chosen = search(features[::30], labels[::30], SvmSearch(), 0, lambda *_: None)
    assert (chosen.gamma, chosen.cost, chosen.macro_sensitivity) == (0.1, 1.0, None)


def test_a_rare_class_weighs_as_much_as_a_common_one() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [400, 20])
    rows = rng.normal(size=(420, 2)) + 1.5 * labels[:, None]
    unseen = rng.normal(size=(400, 2)) + 1.5 * np.repeat([0, 1], 200)[:, None]
    found = fit(rows, labels, SvmChoice(0.1, 1.0), SvmSearch()).predict(unseen)
    assert abs(np.mean(found[:200] == 0) - np.mean(found[200:] == 1)) < 0.15  # unweighted: 0.99 and 0.49


def test_search_chooses_by_the_mean_over_classes_not_by_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [400, 20])
    rows = rng.normal(size=(420, 2)) + 1.5 * labels[:, None]
    options = SvmSearch(gammas=(0.1, 100.0), costs=(1.0,), folds=3)
    choice = search(rows, labels, options, 0, lambda *_: None)
    assert choice.gamma == 0.1  # 100 finds 95 % of the images and 57 % of the classes
    assert choice.macro_sensitivity is not None
    assert choice.macro_sensitivity > 0.7


@pytest.mark.parametrize("max_components", [None, 20])
def test_axes_and_landmarks_are_values_of_float16(blobs: Blobs, max_components: int | None) -> None:
    features, labels = blobs
    pipeline = fit(features, labels, SvmChoice(0.1, 10.0), SvmSearch(max_components=max_components))
    matrices = [pipeline.named_steps["landmarks"].components_]
    if max_components:
        matrices.append(pipeline.named_steps["axes"].components_)
    for matrix in matrices:
        np.testing.assert_array_equal(matrix.astype(np.float16).astype(np.float64), matrix)


def test_weights_are_those_of_the_rows_errors(blobs: Blobs) -> None:
    features, labels = blobs
    shuffled = np.random.default_rng(2).permutation(labels)  # the machine cannot fit these, so that weights matter
    options = SvmSearch(landmarks=100)
    ones = np.ones(len(labels))
    doubled, costlier = (
        fit(features, shuffled, SvmChoice(0.1, 1.0), options, 2 * ones),
        fit(features, shuffled, SvmChoice(0.1, 2.0), options),
    )
    np.testing.assert_allclose(doubled.decision_function(features), costlier.decision_function(features), atol=1e-8)
    first = np.arange(len(labels)) < 60
    weighed = fit(features, shuffled, SvmChoice(0.1, 1.0), options, np.where(first, 50.0, 1.0))
    right = weighed.predict(features) == shuffled
    assert right[first].mean() > right[~first].mean() + 0.2
