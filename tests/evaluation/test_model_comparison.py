"""Models compared on a hold-out, checked with scikit-learn, scipy and a bootstrap that draws patients one by one."""

from __future__ import annotations

import dataclasses
import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import TrainingDataError
from bloodcell.evaluation import Comparison, Holdout, compare, evaluate_calls, mcnemar_exact
from bloodcell.evaluation.patient_intervals import Change, Interval
from tests.trial import N, drawn_holdout, drawn_predictions, holdout_of, predictions_of


@pytest.fixture(scope="module")
def holdout() -> Holdout:
    return drawn_holdout(1_500, 30)


@pytest.fixture(scope="module")
def comparison(holdout: Holdout) -> Comparison:
    models = (
        drawn_predictions(holdout, "challenger", strength=1.5, seed=3),
        drawn_predictions(holdout, "champion", strength=2.4, seed=2),
        drawn_predictions(holdout, "candidate", strength=3.0, seed=1),
    )
    return compare(holdout, models)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_scipys_binomial_test_of_the_discordant_cells(cells: list[tuple[bool, bool]]) -> None:
    a, b = np.array(cells, bool).reshape(-1, 2).T
    only_a, only_b, p = mcnemar_exact(a, b)
    assert only_a == sum(x and not y for x, y in cells)
    assert only_b == sum(y and not x for x, y in cells)
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert p == pytest.approx(expected)


def test_values_are_scikit_learns_for_every_model(holdout: Holdout, comparison: Comparison) -> None:
    assert [model.role for model in comparison.models] == ["candidate", "champion", "challenger"]
    for model, (strength, seed) in zip(comparison.models, ((3.0, 1), (2.4, 2), (1.5, 3)), strict=True):
        predictions = drawn_predictions(holdout, model.role, strength=strength, seed=seed)
        top = predictions.probabilities.argmax(axis=1)
        assert model.accuracy.value == pytest.approx(reference.accuracy_score(holdout.truth, top))
        assert model.macro_f1.value == pytest.approx(reference.f1_score(holdout.truth, top, average="macro"))
        called = ~predictions.unclassified
        precision = reference.precision_score(holdout.truth[called], top[called], average=None)
        recall = reference.recall_score(holdout.truth[called], top[called], average=None)
        assert [each.precision.value for each in model.classes if each.precision] == pytest.approx(precision)
        assert [each.sensitivity.value for each in model.classes if each.sensitivity] == pytest.approx(recall)
        for index, each in enumerate(model.classes):
            assert each.unclassified is not None
            assert each.unclassified.value == pytest.approx(predictions.unclassified[holdout.truth == index].mean())
            assert each.n_called == (top[called] == index).sum()
        evaluation = evaluate_calls(holdout.truth, predictions.probabilities, predictions.unclassified)
        assert model.evaluation == evaluation
        assert 0 <= model.calibration.lower <= model.calibration.value <= model.calibration.upper
        assert model.unclassified.value == evaluation.unclassified.value
        assert model.covered_accuracy is not None
        assert model.covered_accuracy.value == evaluation.covered_accuracy.value
        assert model.held_back is not None
        assert model.held_back.value == predictions.out_of_scope_unclassified.mean()
        assert model.out_of_scope.unclassified.n == predictions.out_of_scope_unclassified.sum()


@pytest.mark.slow
def test_intervals_resemble_those_of_patients_drawn_one_by_one_the_same_for_both_models(
    holdout: Holdout, comparison: Comparison
) -> None:
    predictions = [
        drawn_predictions(holdout, "candidate", strength=3.0, seed=1),
        drawn_predictions(holdout, "champion", strength=2.4, seed=2),
    ]
    tops = [each.probabilities.argmax(axis=1) for each in predictions]
    left_out = [each.unclassified for each in predictions]
    of_patient = [np.flatnonzero(holdout.patients == patient) for patient in np.unique(holdout.patients)]
    random = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {"accuracy": [], "f1": [], "difference": [], "sensitivity": [], "won": []}
    for _ in range(1_500):
        cells = np.concatenate([of_patient[i] for i in random.integers(0, len(of_patient), len(of_patient))])
        truth, a, b = holdout.truth[cells], tops[0][cells], tops[1][cells]
        drawn["accuracy"].append((a == truth).mean())
        drawn["difference"].append((a == truth).mean() - (b == truth).mean())
        drawn["f1"].append(reference.f1_score(truth, a, average="macro", labels=np.unique(truth), zero_division=0))
        called = [~unclassified[cells] for unclassified in left_out]
        of_a, of_b = ((top == truth)[(truth == 3) & each].mean() for top, each in zip((a, b), called, strict=True))
        drawn["sensitivity"].append(of_a)
        drawn["won"].append(of_a - of_b)
    candidate, difference = comparison.candidate, comparison.difference
    assert candidate is not None
    assert difference is not None
    found = {
        "accuracy": candidate.accuracy,
        "f1": candidate.macro_f1,
        "difference": difference.accuracy,
        "sensitivity": candidate.classes[3].sensitivity,
        "won": difference.classes[3].sensitivity,
    }
    for name, values in drawn.items():
        interval = found[name]
        assert interval is not None
        lower, upper = np.percentile(values, (2.5, 97.5))
        assert (interval.lower, interval.upper) == pytest.approx((lower, upper), abs=0.15 * (upper - lower)), name
    # paired: not the width of two independent intervals
    assert comparison.champion is not None
    apart = sum((model.accuracy.upper - model.accuracy.lower) ** 2 for model in (candidate, comparison.champion)) ** 0.5
    assert difference.accuracy.upper - difference.accuracy.lower < 0.8 * apart


def test_lost_and_won_cells_add_up_to_mcnemars(holdout: Holdout, comparison: Comparison) -> None:
    difference = comparison.difference
    assert difference is not None
    assert sum(each.n_lost for each in difference.classes) == difference.n_only_other
    assert sum(each.n_won for each in difference.classes) == difference.n_only_candidate
    assert sum(each.n_net_lost for each in difference.classes) / len(holdout.truth) == pytest.approx(
        -difference.accuracy.value
    )
    assert tuple(each.n_true for each in difference.classes) == comparison.n_by_class
    assert comparison.n_by_class == tuple(np.bincount(holdout.truth, minlength=N))
    assert (comparison.n_patients, comparison.n_slides, comparison.n_out_of_scope) == (30, 60, 20)


def test_a_comparison_is_json_without_nan(comparison: Comparison) -> None:
    document = json.loads(json.dumps(dataclasses.asdict(comparison), allow_nan=False))
    assert comparison.difference is not None
    assert document["difference"]["accuracy"]["value"] == comparison.difference.accuracy.value
    assert document["models"][0]["role"] == "candidate"


def test_the_same_predictions_give_the_same_comparison_in_any_order(holdout: Holdout, comparison: Comparison) -> None:
    models = [
        drawn_predictions(holdout, "candidate", strength=3.0, seed=1),
        drawn_predictions(holdout, "challenger", strength=1.5, seed=3),
        drawn_predictions(holdout, "champion", strength=2.4, seed=2),
    ]
    assert compare(holdout, models) == comparison
    # intervals of one model do not depend on which others are compared
    alone = compare(holdout, models[:1])
    assert alone.models == comparison.models[:1]
    assert (alone.champion_id, alone.champion, alone.difference) == (None, None, None)


def test_the_anchor_is_compared_like_the_champion(holdout: Holdout, comparison: Comparison) -> None:
    models = [
        drawn_predictions(holdout, "candidate", strength=3.0, seed=1),
        drawn_predictions(holdout, "champion", strength=2.4, seed=2),
        dataclasses.replace(
            drawn_predictions(holdout, "champion", strength=2.9, seed=4), role="anchor", model_id="a" * 64
        ),
    ]
    found = compare(holdout, models)
    assert [model.role for model in found.models] == ["candidate", "champion", "anchor"]
    assert found.difference == comparison.difference
    assert found.anchor_difference is not None
    assert found.anchor_difference.other_id == "a" * 64
    against = compare(holdout, [models[0], dataclasses.replace(models[2], role="champion")]).difference
    assert found.anchor_difference == against
    assert comparison.anchor_difference is None


def test_identical_models_differ_by_exactly_zero(holdout: Holdout) -> None:
    candidate = drawn_predictions(holdout)
    champion = dataclasses.replace(candidate, role="champion", model_id="c" * 64)
    difference = compare(holdout, [candidate, champion]).difference
    assert difference is not None
    nothing = Change(0.0, 0.0, 0.0, 0.0, 0.0)
    assert (difference.macro_f1, difference.unclassified) == (nothing,) * 2
    # not proved to be equal: the interval is as wide as that of 1,500 independent cells
    assert difference.accuracy == dataclasses.replace(
        nothing, lower=-difference.accuracy.upper, upper=difference.accuracy.upper
    )
    assert 0.002 < difference.accuracy.upper < 0.003
    assert (difference.n_only_candidate, difference.n_only_other, difference.mcnemar_p) == (0, 0, 1.0)
    assert all(each.sensitivity == nothing and each.precision == nothing for each in difference.classes)


def test_one_patient_gives_figures_with_the_widest_intervals() -> None:
    truth = [0, 1, 2, 3] * 5
    comparison = compare(
        holdout_of(truth, [8] * 20),
        [predictions_of(truth), predictions_of([0, 1, 2, 0] * 5, "champion")],
    )
    candidate, difference = comparison.candidate, comparison.difference
    assert candidate is not None
    assert difference is not None
    assert comparison.n_patients == 1
    assert candidate.accuracy == Interval(1.0, 0.0, 1.0)
    assert candidate.macro_f1 == Change(1.0, 0.0, 1.0, 0.0, 1.0)
    assert difference.accuracy == Change(0.25, -1.0, 1.0, -1.0, 1.0)
    assert difference.classes[3].sensitivity == Change(1.0, -1.0, 1.0, -1.0, 1.0)


def test_a_class_that_only_one_patient_has_gets_the_widest_interval() -> None:
    holdout = holdout_of([0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 2, 3, 4, 5])
    candidate = compare(holdout, [predictions_of([0, 0, 2, 1, 1, 1, 2])]).candidate
    assert candidate is not None
    assert candidate.classes[0].sensitivity == Interval(2 / 3, 0.0, 1.0)
    of_four = candidate.classes[1].sensitivity
    assert of_four is not None
    assert 0 < of_four.lower < of_four.value == 0.75 < of_four.upper <= 1


def test_a_class_without_cells_has_no_sensitivity_and_does_not_count_in_macro_f1() -> None:
    comparison = compare(
        holdout_of([0, 0, 1, 1]),
        [predictions_of([0, 0, 1, 2]), predictions_of([0, 0, 1, 1], "champion")],
    )
    candidate, difference = comparison.candidate, comparison.difference
    assert candidate is not None
    assert difference is not None
    empty = candidate.classes[2]
    assert (empty.n_true, empty.n_called, empty.sensitivity) == (0, 1, None)
    assert empty.precision is not None
    assert empty.precision.value == 0.0
    assert candidate.classes[7].precision is None
    assert (difference.classes[2].sensitivity, difference.classes[2].precision) == (None, None)
    assert candidate.macro_f1.value == pytest.approx((1 + 2 / 3) / 2)


def test_if_every_cell_is_unclassified_there_is_no_covered_accuracy() -> None:
    candidate = compare(
        holdout_of([0, 1]),
        [predictions_of([0, 1], unclassified=[True, True])],
    ).candidate
    assert candidate is not None
    assert candidate.covered_accuracy is None
    assert candidate.unclassified.value == 1.0


@pytest.mark.parametrize("with_champion", [True, False])
def test_an_empty_holdout_gives_a_comparison_without_figures(with_champion: bool) -> None:
    models = [predictions_of([]), *([predictions_of([], "champion")] if with_champion else [])]
    comparison = compare(holdout_of([]), models)
    assert comparison.champion_id == (models[-1].model_id if with_champion else None)
    assert (comparison.models, comparison.difference, comparison.candidate) == ((), None, None)
    assert (comparison.n_cells, comparison.n_patients, comparison.n_by_class) == (0, 0, (0,) * N)


def test_predictions_that_do_not_match_are_refused() -> None:
    holdout = holdout_of([0, 1])
    with pytest.raises(ValueError, match="one candidate"):
        compare(holdout, [predictions_of([0, 1], "champion")])
    with pytest.raises(ValueError, match="at most one champion"):
        other = dataclasses.replace(predictions_of([0, 1], "champion"), model_id="o" * 64)
        compare(holdout, [predictions_of([0, 1]), predictions_of([0, 1], "champion"), other])
    with pytest.raises(ValueError, match="each model once"):
        compare(holdout, [predictions_of([0, 1]), dataclasses.replace(predictions_of([0, 1]), role="champion")])
    with pytest.raises(ValueError, match="shapes"):
        compare(holdout, [predictions_of([0, 1, 1])])
    with pytest.raises(ValueError, match="same cells"):
        compare(dataclasses.replace(holdout, slides=np.zeros(3, int)), [predictions_of([0, 1])])
    with pytest.raises(ValueError, match=r"0\.\.7"):
        compare(holdout_of([0, len(CELL_CLASSES)]), [predictions_of([0, 1])])


def test_a_model_with_probabilities_of_nan_is_named() -> None:
    broken = predictions_of([0, 1, 1])
    broken.probabilities[1, 3] = np.nan
    with pytest.raises(TrainingDataError, match=r"Model candidate000.*not finite.* 1 of 3 hold-out cells.*Train it"):
        compare(holdout_of([0, 1, 1]), [broken])


@pytest.mark.slow
def test_two_hundred_thousand_cells_take_seconds_and_no_more_memory_than_their_predictions() -> None:
    holdout = drawn_holdout(200_000, 1_000)
    models = [drawn_predictions(holdout), drawn_predictions(holdout, "champion", strength=2.8, seed=2)]
    began = time.monotonic()
    compare(holdout, models)
    took_s = time.monotonic() - began
    assert took_s < 10  # 0.3 s on a quiet core
    peaks = []
    for n_patients in (100, 1_000):
        holdout = drawn_holdout(200_000, n_patients)
        models = [drawn_predictions(holdout), drawn_predictions(holdout, "champion", strength=2.8, seed=2)]
        tracemalloc.start()
        compare(holdout, models)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 120 * 2**20  # a matrix of draws and cells would be 400 million numbers
