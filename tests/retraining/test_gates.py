"""Gates: when a candidate passes, when it is refused, and the reasons that the approver reads."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation import Comparison, compare
from bloodcell.evaluation.comparison_records import Role
from bloodcell.evaluation.patient_intervals import cells_to_show_equality
from bloodcell.registry.promotion_proof import Gate, all_passed, refusal
from bloodcell.retraining.gates import GATE_TITLES, judge_gates
from bloodcell.settings import Settings
from tests.trial import N, drawn_holdout, drawn_predictions, holdout_of, predictions_of

SETTINGS = Settings(gate_min_holdout_patients=5, gate_min_out_of_scope_cells=0)
"""As by default, but for twenty patients and no cell out of scope."""

PATIENTS = 20
FAILS = re.compile(
    r"Too (few|many|much)|The hold-out is empty|(Whether|Calibration|The) .*cannot be (judged|compared)"
    r"|.*may fall too far|.*too much is lost|Confidence is not calibrated|.*whether every class is as good cannot be"
    r"|There is no champion to compare with, and (the candidate is not good enough|there are no hold-out cells)"
    r"|There is no champion to compare with; the lowest .*, below|Fewer cells out of scope"
)
"""How the reason of a gate begins that failed; the reason of one that passed never does."""


def compared(candidate: list[int], champion: list[int] | None, truth: list[int], **more: Any) -> Comparison:
    """Compares models on cells that are dealt out to 20 patients."""
    models = [predictions_of(candidate, **more)]
    if champion is not None:
        models.append(predictions_of(champion, "champion"))
    return compare(holdout_of(truth, [i % PATIENTS for i in range(len(truth))]), models)


def truth_of(n_each: int) -> list[int]:
    return [cell_class for cell_class in range(N) for _ in range(n_each)]


def wrong(truth: list[int], cell_class: int, n: int, start: int = 0) -> list[int]:
    """The truth, but with the wrong class for `n` cells of a class, from its `start`th cell on."""
    calls = list(truth)
    places = [i for i, each in enumerate(truth) if each == cell_class][start : start + n]
    for place in places:
        calls[place] = (cell_class + 1) % N
    return calls


def gate(comparison: Comparison, name: str, settings: Settings = SETTINGS) -> Gate:
    return next(each for each in judge_gates(comparison, settings) if each.gate == name)


def test_a_better_candidate_passes_every_gate_and_each_gives_its_reason() -> None:
    holdout = drawn_holdout(3_000, 40)
    comparison = compare(
        holdout,
        [drawn_predictions(holdout, strength=3.3), drawn_predictions(holdout, "champion", strength=2.6, seed=2)],
    )
    gates = judge_gates(comparison, SETTINGS)
    assert tuple(each.gate for each in gates) == tuple(GATE_TITLES)
    assert all_passed(gates)
    assert refusal(gates) == ""
    assert all(each.reason.endswith(".") and "nan" not in each.reason for each in gates)
    assert comparison.difference is not None
    assert gates[2].measured == comparison.difference.accuracy.lower
    assert gates[2].threshold == -0.01
    assert "Accuracy does not fall too far: it goes from" in gates[2].reason


def test_a_candidate_trained_on_shuffled_labels_is_refused_with_reasons() -> None:
    holdout = drawn_holdout(3_000, 40)
    shuffled = dataclasses.replace(holdout, truth=np.random.default_rng(0).permutation(holdout.truth))
    comparison = compare(
        holdout,
        [drawn_predictions(shuffled, strength=3.3), drawn_predictions(holdout, "champion", strength=2.6, seed=2)],
    )
    gates = judge_gates(comparison, SETTINGS)
    assert not all_passed(gates)
    assert {each.gate for each in gates if not each.passed} >= {"not_worse_overall", "no_class_worse", "calibrated"}
    for each in gates:
        assert (each.reason in refusal(gates)) is not each.passed
    assert "below the threshold of −1.00" in refusal(gates)


@pytest.mark.parametrize(("fewest", "passes"), [(9, False), (10, True)])
def test_every_class_needs_enough_holdout_cells(fewest: int, passes: bool) -> None:
    truth = [*truth_of(60)][:-60] + [N - 1] * fewest
    found = gate(compared(truth, truth, truth), "enough_holdout_cells")
    assert (found.passed, found.measured, found.threshold) == (passes, fewest, 10)
    assert f"{CELL_CLASSES[-1]}" in found.reason
    assert str(fewest) in found.reason


@pytest.mark.parametrize(("n_patients", "passes"), [(1, False), (24, False), (25, True)])
def test_the_holdout_needs_enough_patients(n_patients: int, passes: bool) -> None:
    truth = truth_of(10)
    comparison = compare(holdout_of(truth, [i % n_patients for i in range(80)]), [predictions_of(truth)])
    found = gate(comparison, "enough_holdout_patients", Settings())
    assert (found.passed, found.measured, found.threshold) == (passes, n_patients, 25)
    assert f"it has {n_patients} patient{'s' if n_patients > 1 else ''};" in found.reason


def test_accuracy_is_judged_by_the_lower_end_of_the_interval_and_not_by_the_value() -> None:
    # one patient of twenty has all four lost cells of 400; a draw that takes that patient three times loses twelve
    truth = truth_of(50)
    candidate = list(truth)
    for place in [i for i in range(len(truth)) if i % PATIENTS == 0][:4]:
        candidate[place] = (truth[place] + 1) % N
    comparison = compared(candidate, truth, truth)
    found = gate(comparison, "not_worse_overall")
    assert comparison.difference is not None
    assert comparison.difference.accuracy.value == -0.01
    assert found.measured is not None
    assert found.measured < -0.01
    assert not found.passed
    assert gate(comparison, "not_worse_overall", Settings(gate_accuracy_margin=0.05)).passed


@pytest.mark.parametrize(
    ("n_each", "n_lost", "passes"), [(10, 1, True), (10, 2, False), (60, 3, True), (60, 4, False), (200, 10, True)]
)
def test_a_class_may_lose_its_margin_and_what_chance_may_explain(n_each: int, n_lost: int, passes: bool) -> None:
    truth = truth_of(n_each)
    comparison = compared(wrong(truth, 6, n_lost), truth, truth)
    found = gate(comparison, "no_class_worse")
    assert found.passed is passes
    assert found.measured == pytest.approx(n_lost / n_each)
    assert found.threshold == 0.05
    assert f"the sensitivity among called cells of neutrophil ({n_each} cells) changes by −" in found.reason
    assert ("which chance may explain" in found.reason) is ((n_each, n_lost) == (10, 1))


def test_a_sensitivity_that_is_only_lost_among_unclassified_cells_counts_too() -> None:
    # the candidate hides its errors below a threshold: among the called cells it is perfect
    truth = truth_of(100)
    candidate = wrong(truth, 6, 8)
    found = gate(
        compared(candidate, truth, truth, unclassified=[a != b for a, b in zip(candidate, truth, strict=True)]),
        "no_class_worse",
    )
    assert not found.passed
    assert "the sensitivity by the most probable class of neutrophil" in found.reason


def test_cells_won_in_a_class_offset_cells_lost_in_that_class_only() -> None:
    truth = truth_of(40)
    same_class = compared(wrong(truth, 2, 5), wrong(truth, 2, 5, start=20), truth)
    assert gate(same_class, "no_class_worse").passed
    assert "No class has a worse sensitivity" in gate(same_class, "no_class_worse").reason
    other_class = compared(wrong(truth, 2, 5), wrong(truth, 3, 5), truth)
    found = gate(other_class, "no_class_worse")
    assert not found.passed
    assert found.reason.startswith("Too much is lost: the sensitivity among called cells of erythroblast (40 cells)")


def test_the_reason_names_the_class_that_loses_most_and_the_others() -> None:
    # one of ten basophils may be lost by chance; nine of a hundred neutrophils hardly
    truth = [0] * 10 + [cell_class for cell_class in range(1, N) for _ in range(100)]
    candidate = wrong(wrong(wrong(truth, 0, 1), 6, 9), 4, 7)
    found = gate(compared(candidate, truth, truth), "no_class_worse")
    assert not found.passed
    assert found.reason.startswith("Too much is lost: the sensitivity among called cells of neutrophil (100 cells)")
    assert found.reason.endswith("also beyond what is allowed: lymphocyte.")
    assert found.measured == pytest.approx(0.09)


def test_a_class_called_too_often_is_less_precise() -> None:
    # twenty of a hundred lymphocytes are called monocytes: a fifth fewer of the calls "monocyte" are right
    truth = truth_of(100)
    candidate = [5 if cell_class == 4 and n % 5 == 0 else cell_class for n, cell_class in enumerate(truth)]
    found = gate(compared(candidate, truth, truth), "no_class_less_precise")
    assert not found.passed
    assert "the precision of monocyte (120 called) changes by −16.67 points; a loss of 5.0 % is allowed" in found.reason


def test_a_class_that_is_never_called_is_refused_by_every_gate_of_classes() -> None:
    truth = truth_of(60)
    comparison = compared(truth, truth, truth, unclassified=[cell_class == 3 for cell_class in truth])
    assert gate(comparison, "not_worse_overall").passed  # its most probable class is still right
    for name in ("no_class_worse", "no_class_less_precise", "no_class_more_unclassified"):
        found = gate(comparison, name)
        assert not found.passed, name
        assert " ig" in found.reason


@pytest.mark.parametrize(("n_held_back", "passes"), [(0, False), (5, False), (6, True), (24, True)])
def test_cells_out_of_scope_must_be_held_back(n_held_back: int, passes: bool) -> None:
    truth = truth_of(10)
    candidate = predictions_of(truth, held_back=[n < n_held_back for n in range(24)])
    champion = predictions_of(truth, "champion", held_back=[n < 6 for n in range(24)])
    holdout = holdout_of(truth, [i % PATIENTS for i in range(80)], n_out_of_scope=24)
    found = gate(compare(holdout, [candidate, champion]), "out_of_scope_held_back", Settings())
    assert (found.passed, found.measured, found.threshold) == (passes, n_held_back / 24, 0.25)
    assert f"{100 * n_held_back / 24:.1f} % of 24 cells out of scope" in found.reason


def test_a_candidate_may_not_hold_back_much_less_than_the_champion() -> None:
    truth = truth_of(10)
    candidate = predictions_of(truth, held_back=[n % 2 == 0 for n in range(40)])
    champion = predictions_of(truth, "champion", held_back=[n % 5 != 0 for n in range(40)])
    holdout = holdout_of(truth, [i % PATIENTS for i in range(80)], n_out_of_scope=40)
    found = gate(compare(holdout, [candidate, champion]), "out_of_scope_held_back")
    assert not found.passed
    assert found.reason.startswith("Fewer cells out of scope are held back than by the champion: 50.0 % of 40")


@pytest.mark.parametrize("lost_of", [(8, 4), (12, 3, 2), (10, 1, 1, 1, 1)])
def test_a_rare_class_of_few_patients_cannot_be_lost_unnoticed(lost_of: tuple[int, ...]) -> None:
    # all of the class's cells are those of a few patients, who are lost with them
    others = [cell_class for cell_class in truth_of(400) if cell_class != 3]
    truth, patients = list(others), [i % 60 for i in range(len(others))]
    for patient, n in enumerate(lost_of):
        truth += [3] * n
        patients += [patient] * n
    candidate = others + [6] * sum(lost_of)
    models = [predictions_of(candidate), predictions_of(truth, "champion")]
    comparison = compare(holdout_of(truth, patients), models)
    assert not gate(comparison, "no_class_worse").passed
    enough = gate(comparison, "enough_holdout_cells")
    assert enough.passed is (len(lost_of) >= 5)
    if len(lost_of) < 5:
        assert f"Too few patients with ig {len(lost_of)}: every class needs 5" in enough.reason


@pytest.mark.parametrize(("n_each", "passes"), [(48, False), (49, True)])
def test_a_holdout_that_cannot_show_that_equal_models_are_equal_says_so(n_each: int, passes: bool) -> None:
    truth = truth_of(n_each)  # 384 or 392 cells; 381 are needed for a margin of one point
    assert cells_to_show_equality(0.01) == 381
    truth = truth if passes else truth[4:]
    comparison = compared(truth, truth, truth)
    found = gate(comparison, "enough_holdout_cells")
    assert found.passed is passes
    assert gate(comparison, "not_worse_overall").passed is passes
    assert (
        "Too few hold-out cells to show that two equal models are equal: 380, 381 are needed" in found.reason
    ) is not passes


def test_a_candidate_that_leaves_more_unclassified_than_the_anchor_fails_however_small_the_steps() -> None:
    truth = truth_of(200)
    share: dict[Role, int] = {"candidate": 46, "champion": 41, "anchor": 0}
    models = [
        predictions_of(truth, role, unclassified=[i % 100 < n for i in range(len(truth))]) for role, n in share.items()
    ]
    comparison = compare(holdout_of(truth, [i // 100 for i in range(len(truth))]), models)
    assert gate(comparison, "not_more_unclassified").passed
    found = gate(comparison, "not_worse_than_anchor")
    assert not found.passed
    assert "+46.00 points more unclassified" in found.reason


@pytest.mark.parametrize("n_patients", [1, 4])
def test_cells_out_of_scope_of_few_patients_cannot_judge(n_patients: int) -> None:
    truth = truth_of(60)
    holdout = dataclasses.replace(
        holdout_of(truth, [i % PATIENTS for i in range(480)]), out_of_scope_patients=np.arange(40) % n_patients
    )
    models = [
        predictions_of(truth, held_back=[i < 11 for i in range(40)]),
        predictions_of(truth, "champion", held_back=[True] * 40),
    ]
    found = gate(compare(holdout, models), "out_of_scope_held_back", Settings())
    assert not found.passed
    assert f"of {n_patients} patient" in found.reason


def test_too_few_cells_out_of_scope_cannot_be_judged() -> None:
    truth = truth_of(10)
    models = [predictions_of(truth, held_back=[True] * 19), predictions_of(truth, "champion", held_back=[True] * 19)]
    found = gate(compare(holdout_of(truth, n_out_of_scope=19), models), "out_of_scope_held_back", Settings())
    assert (found.passed, found.measured) == (False, None)
    assert "19 such cells of the random sample, of 19 patients, were read blind; 20 cells of 5 patients" in found.reason


@pytest.mark.parametrize(("n_lost", "passes"), [(0, True), (40, False)])
def test_small_losses_that_add_up_fail_against_the_anchor(n_lost: int, passes: bool) -> None:
    # the candidate equals the champion, and both have lost what many small steps since the anchor allowed
    truth = truth_of(200)
    now = wrong(truth, 6, n_lost)
    models = [predictions_of(now), predictions_of(now, "champion"), predictions_of(truth, "anchor")]
    comparison = compare(holdout_of(truth, [i % PATIENTS for i in range(len(truth))]), models)
    assert gate(comparison, "not_worse_overall").passed
    found = gate(comparison, "not_worse_than_anchor")
    assert found.passed is passes
    assert "Compared with the anchor anchor000000, the first approved champion" in found.reason
    assert ("too much is lost: neutrophil" in found.reason) is not passes


@pytest.mark.parametrize(("confidence", "passes"), [(0.96, True), (0.8, False)])
def test_a_candidate_must_be_calibrated(confidence: float, passes: bool) -> None:
    truth = truth_of(40)  # all right, with less confidence than that
    comparison = compared(truth, truth, truth, confidence=confidence)
    found = gate(comparison, "calibrated")
    assert comparison.candidate is not None
    assert found.measured == comparison.candidate.calibration.lower
    assert (found.passed, found.threshold) == (passes, 0.05)


@pytest.mark.parametrize(("n_left", "passes"), [(4, True), (5, False)])
def test_the_share_of_unclassified_cells_may_rise_only_by_its_margin(n_left: int, passes: bool) -> None:
    truth = truth_of(10)
    found = gate(compared(truth, truth, truth, unclassified=[i < n_left for i in range(80)]), "not_more_unclassified")
    assert found.measured == n_left / 80
    assert (found.passed, found.threshold) == (passes, 0.05)


def test_a_loss_or_rise_of_exactly_the_margin_passes_despite_rounding() -> None:
    truth = truth_of(100)
    loose = Settings(gate_class_margin=0.29)
    assert 0.29 * 100 < 29
    assert gate(compared(wrong(truth, 6, 29), truth, truth), "no_class_worse", loose).passed
    assert not gate(compared(wrong(truth, 6, 30), truth, truth), "no_class_worse", loose).passed
    models = [
        predictions_of(truth, unclassified=[i < 320 for i in range(800)]),
        predictions_of(truth, "champion", unclassified=[i < 280 for i in range(800)]),
    ]
    comparison = compare(holdout_of(truth, [i % 9 for i in range(800)]), models)
    assert 320 / 800 - 280 / 800 > 0.05
    assert gate(comparison, "not_more_unclassified").passed


def test_without_a_champion_the_gates_that_compare_models_pass_and_say_so() -> None:
    truth = truth_of(100)
    gates = judge_gates(compared(wrong(truth, 0, 5), None, truth), SETTINGS)
    for name in ("not_worse_overall", "no_class_worse", "no_class_less_precise", "not_more_unclassified"):
        found = next(each for each in gates if each.gate == name)
        assert found.passed
        assert "no champion" in found.reason


@pytest.mark.parametrize(
    ("name", "n_unclassified", "n_wrong"), [("no_class_worse", 0, 60), ("no_class_more_unclassified", 60, 0)]
)
def test_a_first_model_needs_a_minimum_in_each_class(name: str, n_unclassified: int, n_wrong: int) -> None:
    truth = truth_of(100)
    comparison = compared(
        wrong(truth, 3, n_wrong), None, truth, unclassified=[300 <= i < 300 + n_unclassified for i in range(len(truth))]
    )
    found = gate(comparison, name)
    assert not found.passed
    assert "that of ig, 40.0 %, below the 50.0 % that a first model needs" in found.reason


def test_a_first_model_needs_a_minimum_accuracy() -> None:
    truth = truth_of(100)
    comparison = compared(wrong(truth, 0, 30), None, truth)
    found = gate(comparison, "not_worse_overall", Settings(gate_first_accuracy=0.97))
    assert not found.passed
    assert "below the 97.0 % that a first model needs" in found.reason
    assert gate(comparison, "not_worse_overall", Settings(gate_first_accuracy=0.9)).passed


@pytest.mark.parametrize("champion", [None, []])
def test_an_empty_holdout_is_refused_with_reasons(champion: list[int] | None) -> None:
    gates = judge_gates(compared([], champion, []), SETTINGS)
    assert not all_passed(gates)
    assert "The hold-out is empty" in refusal(gates)
    assert not any(each.passed for each in gates)
    assert all(each.measured is None or math.isfinite(each.measured) for each in gates)


def test_a_class_without_holdout_cells_is_named_by_every_gate_that_judges_classes() -> None:
    truth = [each for each in truth_of(100) if each != 1]
    gates = judge_gates(compared(truth, truth, truth), SETTINGS)
    failed = {each.gate: each.reason for each in gates if not each.passed}
    by_class = {"no_class_worse", "no_class_less_precise", "no_class_more_unclassified"}
    assert failed.keys() == {"enough_holdout_cells"} | by_class
    assert "eosinophil 0" in failed["enough_holdout_cells"]
    for name in by_class:
        assert failed[name].endswith("cannot be judged: there are no hold-out cells of eosinophil.")


@examples(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1), st.integers(0, N - 1)), max_size=40),
    st.booleans(),
)
def test_every_gate_has_a_sentence_and_finite_numbers_for_any_holdout(
    cells: list[tuple[int, int, int]], with_champion: bool
) -> None:
    truth, candidate, champion = ([cell[i] for cell in cells] for i in range(3))
    gates = judge_gates(compared(candidate, champion if with_champion else None, truth), SETTINGS)
    assert tuple(each.gate for each in gates) == tuple(GATE_TITLES)
    for each in gates:
        assert each.reason.endswith(".")
        assert "nan" not in each.reason
        assert "None" not in each.reason
        assert bool(FAILS.match(each.reason)) is not each.passed
        assert all(value is None or math.isfinite(value) for value in (each.measured, each.threshold))
    assert all_passed(gates) == (refusal(gates) == "")
