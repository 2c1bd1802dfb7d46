"""When the lockbox contradicts the gates: a loss beyond what they allow, and beyond chance."""

from __future__ import annotations

import pytest

from bloodcell.evaluation import Comparison, compare
from bloodcell.retraining.lockbox import judge_lockbox
from tests.trial import N, holdout_of, predictions_of


def lockbox(n_cells: int, n_lost: int, *, with_champion: bool = True) -> Comparison:
    truth = [i % N for i in range(n_cells)]
    candidate = [(each + 1) % N if i < n_lost else each for i, each in enumerate(truth)]
    models = [predictions_of(candidate), *([predictions_of(truth, "champion")] if with_champion else [])]
    return compare(holdout_of(truth, [i % 10 for i in range(n_cells)]), models)


@pytest.mark.parametrize(
    ("n_cells", "n_lost", "passes"), [(60, 0, True), (60, 1, True), (60, 9, False), (400, 4, True), (400, 12, False)]
)
def test_the_lockbox_contradicts_only_a_loss_that_is_no_chance(n_cells: int, n_lost: int, passes: bool) -> None:
    found = judge_lockbox(lockbox(n_cells, n_lost), 0.01)
    assert found.passed is passes
    assert f"The {n_cells} cells of 10 patients in the lockbox {'do not ' * passes}contradict the gates" in found.reason


def test_a_lockbox_of_one_patient_contradicts_a_candidate_that_gets_it_all_wrong() -> None:
    truth = [i % N for i in range(160)]
    models = [predictions_of([(each + 1) % N for each in truth]), predictions_of(truth, "champion")]
    found = judge_lockbox(compare(holdout_of(truth, [0] * 160), models), 0.01)
    assert not found.passed


def test_a_small_lockbox_says_that_it_is_small() -> None:
    assert "They are too few to contradict a small loss" in judge_lockbox(lockbox(60, 0), 0.01).reason
    assert "too few" not in judge_lockbox(lockbox(400, 0), 0.01).reason


def test_without_a_champion_there_is_nothing_to_contradict() -> None:
    found = judge_lockbox(lockbox(80, 8, with_champion=False), 0.01)
    assert found.passed
    assert found.reason == (
        "There is no champion to compare with on the 80 cells of 10 patients in the lockbox: accuracy 90.0 %."
    )
