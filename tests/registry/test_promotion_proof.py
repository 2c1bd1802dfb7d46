"""Gates as the database stores them, and what they mean for a promotion."""

from __future__ import annotations

import pytest

from bloodcell.registry.promotion_proof import Gate, all_passed, refusal

PASSED = Gate("calibrated", True, 0.02, 0.05, "Calibration error is 2.0 %.")
FAILED = Gate("not_worse_overall", False, -0.2, -0.01, "Accuracy falls.")
UNMEASURED = Gate("no_class_worse", False, None, None, "The hold-out is empty.")


@pytest.mark.parametrize("gate", [PASSED, FAILED, UNMEASURED])
def test_a_gate_is_the_same_after_it_was_stored_and_read(gate: Gate) -> None:
    assert Gate.from_json(gate.to_json()) == gate
    assert gate.to_json().keys() == {"gate", "passed", "measured", "threshold", "reason"}


def test_a_gate_of_release_0_1_has_its_threshold_under_limit() -> None:
    kept = {"gate": "calibrated", "passed": True, "measured": 0.02, "limit": 0.05, "reason": PASSED.reason}
    assert Gate.from_json(kept) == PASSED


def test_a_model_passes_only_if_it_has_gates_and_all_passed() -> None:
    assert all_passed((PASSED,))
    assert not all_passed((PASSED, FAILED))
    assert not all_passed(())


def test_a_refusal_has_the_reason_of_each_failed_gate() -> None:
    assert refusal((PASSED, FAILED, UNMEASURED)) == "Accuracy falls. The hold-out is empty."
    assert refusal((PASSED,)) == ""
