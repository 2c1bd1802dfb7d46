"""The summary that the person who approves sees in Airflow."""

from __future__ import annotations

import dataclasses
import re

import pytest

from bloodcell.evaluation import compare
from bloodcell.retraining.gates import GATE_TITLES, judge_gates
from bloodcell.retraining.validation_summary import comparison_markdown, summary_markdown
from bloodcell.settings import Settings
from tests.retraining.test_validation_page import FACTS, HOSTILE, comparison_of
from tests.trial import drawn_holdout, drawn_predictions, holdout_of, predictions_of


def tables(summary: str) -> list[list[list[str]]]:
    """Returns the tables of a summary, as rows of cells."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", summary, flags=re.MULTILINE)
    return [[[cell.strip() for cell in row[1:-1].split("|")] for row in block.splitlines()] for block in blocks]


def test_summary_has_verdict_figures_changes_and_gates() -> None:
    comparison = comparison_of()
    gates = judge_gates(comparison, Settings())
    summary = summary_markdown(comparison, gates, FACTS)
    assert summary.startswith("### ✓ inception_v3 `candidate-1")
    assert f"passed all {len(gates)} gates" in summary
    figures, judged = tables(summary)
    assert figures[0] == ["", "candidate", "champion", "difference, points"]
    assert len({len(row) for row in figures}) == 1
    assert comparison.difference is not None
    assert figures[2][3].startswith(f"{100 * comparison.difference.accuracy.value:+.1f} (")
    assert [row[1] for row in judged[2:]] == list(GATE_TITLES.values())
    assert {row[0] for row in judged[2:]} == {"✓"}
    assert "McNemar" in summary
    for each in comparison.difference.classes:
        assert f"({each.n_won:,} won, {each.n_lost:,} lost)" in summary
    assert "Requested by dr.a, login kim: Autumn labels." in summary


def test_the_summary_of_a_refused_candidate_begins_with_its_reasons() -> None:
    comparison = comparison_of(strength=2.0)
    gates = judge_gates(comparison, Settings())
    lines = summary_markdown(comparison, gates, FACTS).splitlines()
    failed = [gate for gate in gates if not gate.passed]
    assert lines[0].endswith(f"is refused: {len(failed)} of {len(gates)} gates failed")
    assert lines[2 : 2 + len(failed)] == [f"- {gate.reason}" for gate in failed]


def test_text_that_a_person_typed_has_no_meaning_in_markdown() -> None:
    typed = f"{HOSTILE} | [x](http://a) ![y](b) **c** `d` & <img src=e> {'long ' * 100}"
    comparison = comparison_of()
    facts = dataclasses.replace(FACTS, requested_by="*eve*\r\n\r\n# Gate passed", reason=typed)
    summary = summary_markdown(comparison, judge_gates(comparison, Settings()), facts)
    line = next(line for line in summary.splitlines() if line.startswith("Validated on"))
    assert "Data set `abababababab`" in line
    of_people = line.split("Requested by ")[1].split(". Data set")[0]
    # every character with a meaning has a backslash before it, except in entities and in the code that addresses become
    literal = re.sub(r"(?<!\\)`[^`\\]*`|&[lg]t;", "", of_people.replace("\\\\", ""))
    assert not re.search(r"(?<!\\)[<>*_`\[\]()|#!&]", literal)
    assert "\u202e" not in summary
    assert len(of_people) < 900
    assert not re.search(r"^#+ (Approve|Gate)", summary, flags=re.MULTILINE)


@pytest.mark.parametrize("n_cells", [0, 1])
def test_too_small_a_holdout_has_a_summary(n_cells: int) -> None:
    truth = [3] * n_cells
    comparison = compare(holdout_of(truth), [predictions_of(truth), predictions_of(truth, "champion")])
    summary = summary_markdown(comparison, judge_gates(comparison, Settings()), FACTS)
    assert "is refused" in summary
    assert "nan" not in summary
    assert ("The candidate and the champion classify the same cells correctly." in summary) is bool(n_cells)


def test_without_a_champion_there_is_one_column_and_nothing_changes() -> None:
    holdout = drawn_holdout(600, 12)
    comparison = compare(holdout, [drawn_predictions(holdout)])
    summary = summary_markdown(comparison, judge_gates(comparison, Settings()), FACTS)
    assert tables(summary)[0][0] == ["", "candidate"]
    assert "without a champion to compare with" in summary
    assert "What changes" not in summary


@pytest.mark.parametrize(("strength", "verdict"), [(3.3, "would pass the gates"), (2.0, "would not pass the gates")])
def test_two_models_side_by_side_are_named_and_neither_is_refused(strength: float, verdict: str) -> None:
    comparison = comparison_of(strength=strength)
    gates = judge_gates(comparison, Settings())
    text = comparison_markdown(comparison, gates)
    assert verdict in text
    assert "refused" not in text
    assert "candidate " not in text.replace("`candidate", "")
    failed = [gate.reason for gate in gates if not gate.passed]
    assert [line.removeprefix("- ") for line in text.splitlines() if line.removeprefix("- ") in failed] == failed
    assert "hold-out is empty" in comparison_markdown(
        compare(holdout_of([]), [predictions_of([]), predictions_of([], "champion")]), gates
    )
