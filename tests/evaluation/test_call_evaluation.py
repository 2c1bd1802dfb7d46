"""The figures of an evaluation, compared with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import TrainingDataError
from bloodcell.evaluation import Evaluation, evaluate_calls

N = len(CELL_CLASSES)


def _drawn(seed: int, n: int, n_classes: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns true classes, probabilities that are right more often than not, and which cells are unclassified."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, n_classes, n)
    scores = random.normal(size=(n, N))
    scores[np.arange(n), truth] += 2
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return truth, probabilities.astype(np.float32), random.random(n) < 0.2


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _drawn(0, 1_000)


@pytest.fixture(scope="module")
def evaluation(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Evaluation:
    return evaluate_calls(*drawn)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, N))
def test_figures_equal_scikit_learns(seed: int, n: int, n_classes: int) -> None:
    truth, probabilities, unclassified = _drawn(seed, n, n_classes)
    evaluation = evaluate_calls(truth, probabilities, unclassified)
    top = probabilities.argmax(axis=1)
    present = np.unique(truth)
    assert evaluation.accuracy.value == pytest.approx(reference.accuracy_score(truth, top))
    f1 = reference.f1_score(truth, top, labels=present, average="macro", zero_division=0)
    assert evaluation.macro_f1 == pytest.approx(f1)
    recalls = reference.recall_score(truth, top, labels=present, average="macro", zero_division=0)
    assert evaluation.balanced_accuracy == pytest.approx(recalls)
    assert np.array_equal(evaluation.confusion, reference.confusion_matrix(truth, top, labels=range(N)))
    exact = probabilities.astype(float)
    loss = reference.log_loss(truth, exact / exact.sum(axis=1, keepdims=True), labels=range(N))
    assert evaluation.negative_log_likelihood == pytest.approx(loss, abs=1e-5)


def test_each_class_has_scikit_learns_precision_and_sensitivity_and_the_specificity_of_its_binary_matrix(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], evaluation: Evaluation
) -> None:
    truth, probabilities, _ = drawn
    top = probabilities.argmax(axis=1)
    precision, recall, f1, support = reference.precision_recall_fscore_support(truth, top)
    matrices = reference.multilabel_confusion_matrix(truth, top)
    for i, figures in enumerate(evaluation.classes):
        assert figures.cell_class == CELL_CLASSES[i]
        assert figures.precision.value == pytest.approx(precision[i])
        assert figures.sensitivity.value == pytest.approx(recall[i])
        assert figures.f1 == pytest.approx(f1[i])
        assert figures.n_true == support[i]
        (true_negative, false_positive), _ = matrices[i]
        assert figures.specificity.value == pytest.approx(true_negative / (true_negative + false_positive))


def test_unclassified_cells_do_not_count_in_covered_accuracy_and_are_missed_in_called_sensitivity() -> None:
    truth = np.array([0, 0, 0, 1])
    probabilities = np.eye(N)[[0, 0, 1, 1]]
    evaluation = evaluate_calls(truth, probabilities, np.array([False, True, True, False]))
    assert (evaluation.accuracy.n, evaluation.accuracy.total) == (3, 4)
    assert (evaluation.covered_accuracy.n, evaluation.covered_accuracy.total) == (2, 2)
    assert evaluation.coverage.value == 0.5
    assert evaluation.unclassified.n == 2
    basophil = evaluation.classes[0]
    assert (basophil.called_sensitivity.n, basophil.called_sensitivity.total) == (1, 3)
    assert (basophil.sensitivity.n, basophil.n_unclassified) == (2, 2)
    assert evaluation.called_confusion[0] == (1, 0, 0, 0, 0, 0, 0, 0, 2)


def test_confusion_matrices_account_for_every_cell(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], evaluation: Evaluation
) -> None:
    truth, _, unclassified = drawn
    rows = np.bincount(truth, minlength=N)
    assert np.array_equal(np.sum(evaluation.confusion, axis=1), rows)
    assert np.array_equal(np.sum(evaluation.called_confusion, axis=1), rows)
    assert sum(row[-1] for row in evaluation.called_confusion) == unclassified.sum()


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    # 100 cells called with 0.8, 60 of them right: the gap is 0.2 in the one bin that has cells.
    probabilities = np.full((100, N), 0.2 / (N - 1))
    probabilities[:, 0] = 0.8
    truth = np.array([0] * 60 + [1] * 40)
    evaluation = evaluate_calls(truth, probabilities, np.zeros(100, bool))
    assert evaluation.calibration_error == pytest.approx(0.2)
    (only,) = evaluation.bins
    assert only.lower < 0.8 <= only.upper + 1e-9
    assert (only.confidence, only.accuracy.value) == (pytest.approx(0.8), 0.6)


def test_a_perfect_and_certain_model_has_no_calibration_error() -> None:
    truth = np.arange(N)
    evaluation = evaluate_calls(truth, np.eye(N, dtype=np.float32), np.zeros(N, bool))
    assert evaluation.calibration_error == 0
    assert evaluation.negative_log_likelihood == 0
    assert evaluation.macro_f1 == 1
    assert evaluation.accuracy.lower == pytest.approx(0.6306, abs=1e-4)


def test_a_certain_but_wrong_prediction_keeps_the_likelihood_finite() -> None:
    evaluation = evaluate_calls(np.array([1]), np.eye(N)[[0]], np.array([False]))
    assert 50 < evaluation.negative_log_likelihood < 100


def test_a_class_that_never_occurs_has_no_sensitivity_and_does_not_lower_the_mean() -> None:
    evaluation = evaluate_calls(np.array([0, 0]), np.eye(N)[[0, 0]], np.zeros(2, bool))
    assert evaluation.classes[1].sensitivity.value is None
    assert evaluation.classes[1].precision.value is None
    assert (evaluation.macro_f1, evaluation.balanced_accuracy) == (1, 1)


def test_a_model_that_calls_nothing_has_no_covered_accuracy() -> None:
    evaluation = evaluate_calls(np.array([0]), np.eye(N)[[0]], np.array([True]))
    assert evaluation.covered_accuracy.value is None
    assert evaluation.coverage.value == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(TrainingDataError, match="no cells"):
        evaluate_calls(np.zeros(0, int), np.zeros((0, N)), np.zeros(0, bool))
    with pytest.raises(ValueError, match="Received: -1"):
        evaluate_calls(np.array([-1]), np.eye(N)[[0]], np.array([True]))
    with pytest.raises(ValueError, match="unclassified"):
        evaluate_calls(np.array([1]), np.eye(N)[[0]], np.array([True, False]))
