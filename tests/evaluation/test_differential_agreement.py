"""Slide-level agreement, compared with percentages computed by hand and by bloodcell's own differential."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bloodcell.cells.classes import CELL_CLASSES, LEUCOCYTE_CLASSES, UNCLASSIFIED
from bloodcell.differential.counting import count_differential
from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.evaluation.differential_agreement import MIN_LEUCOCYTES, Agreement, slide_agreement
from tests.laboratory import slide_counts
from tests.trial import drawn_holdout, drawn_predictions


def cells(*classes: tuple[str, int]) -> list[int]:
    return [CELL_CLASSES.index(cell_class) for cell_class, n in classes for _ in range(n)]


def agreement(slides: list[tuple[list[int], list[int]]], unclassified: list[bool] | None = None) -> Agreement:
    """Returns the agreement of slides given as (labels, calls)."""
    numbers = np.array([10 * index for index, (labels, _) in enumerate(slides) for _ in labels])
    truth = np.array([cell for labels, _ in slides for cell in labels])
    top = np.array([cell for _, calls in slides for cell in calls])
    left = np.zeros(len(truth), bool) if unclassified is None else np.array(unclassified)
    return slide_agreement(numbers, truth, top, left)


def test_bias_and_limits_of_agreement_are_those_computed_by_hand() -> None:
    # neutrophils by labels and calls: 50 and 60 %, 50 and 50 %, 75 and 70 %; differences 10, 0, -5
    found = agreement(
        [
            (cells(("neutrophil", 10), ("lymphocyte", 10)), cells(("neutrophil", 12), ("lymphocyte", 8))),
            (cells(("neutrophil", 10), ("lymphocyte", 10)), cells(("neutrophil", 10), ("lymphocyte", 10))),
            (cells(("neutrophil", 15), ("lymphocyte", 5)), cells(("neutrophil", 14), ("monocyte", 6))),
        ]
    )
    assert (found.n_slides, found.n_left_out) == (3, 0)
    neutrophils, *_, ig = found.classes
    assert neutrophils.cell_class == "neutrophil"
    assert neutrophils.means == (55.0, 50.0, 72.5)
    assert neutrophils.differences == (10.0, 0.0, -5.0)
    assert neutrophils.bias == pytest.approx(5 / 3)
    deviation = (((10 - 5 / 3) ** 2 + (5 / 3) ** 2 + (5 + 5 / 3) ** 2) / 2) ** 0.5
    assert neutrophils.lower == pytest.approx(5 / 3 - 1.96 * deviation)
    assert neutrophils.upper == pytest.approx(5 / 3 + 1.96 * deviation)
    assert (ig.bias, ig.lower, ig.upper) == (0.0, 0.0, 0.0)


def test_percentages_are_those_of_the_products_differential() -> None:
    holdout = drawn_holdout(800, 4)
    predictions = drawn_predictions(holdout, strength=1.5)
    top = predictions.probabilities.argmax(axis=1)
    found = slide_agreement(holdout.slides, holdout.truth, top, predictions.unclassified)
    assert found.n_slides == 8
    for index, slide in enumerate(np.unique(holdout.slides)):
        of_slide = holdout.slides == slide
        called = [
            UNCLASSIFIED if left else CELL_CLASSES[cell_class]
            for cell_class, left in zip(top[of_slide], predictions.unclassified[of_slide], strict=True)
        ]
        reported = count_differential(slide_counts(Counter(called)), read_rules(None))
        labelled = count_differential(
            slide_counts(Counter(CELL_CLASSES[g] for g in holdout.truth[of_slide])), read_rules(None)
        )
        for by_calls, by_labels, cell_class in zip(
            reported.leucocytes, labelled.leucocytes, found.classes, strict=True
        ):
            assert by_calls.cell_class == cell_class.cell_class
            assert by_calls.share.percentage is not None
            assert by_labels.share.percentage is not None
            expected = by_calls.share.percentage - by_labels.share.percentage
            assert cell_class.differences[index] == pytest.approx(expected, abs=0.006)


def test_unclassified_cells_erythroblasts_and_platelets_do_not_count_in_the_denominator() -> None:
    labels = cells(("neutrophil", 20), ("lymphocyte", 20), ("erythroblast", 30), ("platelet", 7))
    found = agreement([(labels, labels)], [True] * 10 + [False] * 67)
    assert found.classes[0].differences == (pytest.approx(100 * 10 / 30 - 50, abs=0.006),)
    assert found.classes[LEUCOCYTE_CLASSES.index("lymphocyte")].differences == (
        pytest.approx(100 * 20 / 30 - 50, abs=0.006),
    )


def test_a_slide_with_too_few_leucocytes_by_labels_or_by_calls_is_left_out_and_counted() -> None:
    enough = cells(("neutrophil", MIN_LEUCOCYTES))
    few = cells(("neutrophil", MIN_LEUCOCYTES - 1), ("platelet", 50))
    found = agreement([(enough, enough), (few, few), (enough, cells(("platelet", MIN_LEUCOCYTES)))])
    assert (found.n_slides, found.n_left_out) == (1, 2)


def test_one_slide_has_a_bias_but_no_limits_of_agreement_and_no_slide_has_neither() -> None:
    enough = cells(("neutrophil", MIN_LEUCOCYTES))
    one = agreement([(enough, enough)])
    assert [(cell_class.bias, cell_class.lower, cell_class.upper) for cell_class in one.classes] == [
        (0.0, None, None)
    ] * 6
    none = slide_agreement(*(np.zeros(0, int),) * 3, np.zeros(0, bool))
    assert (none.n_slides, none.n_left_out) == (0, 0)
    assert [(cell_class.bias, cell_class.lower, cell_class.means) for cell_class in none.classes] == [
        (None, None, ())
    ] * 6
