"""The rule that turns probabilities and novelty into calls."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell.cells.calls import decide
from bloodcell.cells.classes import CELL_CLASSES


def _probabilities(*tops: tuple[str, float]) -> np.ndarray:
    rows = np.zeros((len(tops), len(CELL_CLASSES)), np.float32)
    for row, (cell_class, confidence) in zip(rows, tops, strict=True):
        row[:] = (1 - confidence) / (len(CELL_CLASSES) - 1)
        row[CELL_CLASSES.index(cell_class)] = confidence
    return rows


def test_a_confident_and_familiar_cell_is_called_its_most_probable_class() -> None:
    calls = decide(_probabilities(("monocyte", 0.9)), np.array([0.5]), confidence_threshold=0.6, novelty_threshold=1)
    assert calls.called == ("monocyte",)
    assert calls.reasons == (None,)
    assert calls.top.tolist() == [CELL_CLASSES.index("monocyte")]
    assert calls.confidence[0] == pytest.approx(0.9)
    assert not calls.unclassified.any()


def test_a_cell_of_low_confidence_is_unclassified_and_keeps_its_most_probable_class() -> None:
    calls = decide(_probabilities(("ig", 0.5)), np.array([0.5]), confidence_threshold=0.6, novelty_threshold=1)
    assert (calls.called, calls.reasons) == (("unclassified",), ("low_confidence",))
    assert CELL_CLASSES[calls.top[0]] == "ig"
    assert calls.unclassified.tolist() == [True]


def test_a_novel_cell_is_unclassified_whatever_the_confidence() -> None:
    calls = decide(
        _probabilities(("lymphocyte", 0.999), ("lymphocyte", 0.3)),
        np.array([7.0, 7.0]),
        confidence_threshold=0.6,
        novelty_threshold=1,
    )
    assert calls.reasons == ("novel", "novel")


def test_values_on_the_thresholds_are_called() -> None:
    rows = np.zeros((1, 8))
    rows[0, 3] = 0.75
    calls = decide(rows, np.array([2.0]), confidence_threshold=0.75, novelty_threshold=2.0)
    assert calls.called == ("ig",)


def test_a_cell_that_is_more_probably_of_no_class_is_novel() -> None:
    rows = np.zeros((2, 8))
    rows[:, 3] = 0.45, 0.55
    calls = decide(rows, np.zeros(2), confidence_threshold=0.3, novelty_threshold=1.0)
    assert calls.reasons == ("novel", None)


def test_nan_is_never_classified() -> None:
    rows = np.full((2, 8), np.nan)
    rows[1] = 0.0
    rows[1, 0] = 1.0
    calls = decide(rows, np.array([0.0, np.nan]), confidence_threshold=0.5, novelty_threshold=1)
    assert calls.reasons == ("low_confidence", "novel")


def test_no_cells_give_no_calls() -> None:
    calls = decide(np.zeros((0, 8)), np.zeros(0), confidence_threshold=0.5, novelty_threshold=1)
    assert calls.called == ()
    assert calls.unclassified.shape == (0,)


@pytest.mark.parametrize("shapes", [((3, 7), (3,)), ((3, 8), (2,)), ((8,), (8,))])
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"Expected probabilities \(n, 8\)"):
        decide(np.zeros(shapes[0]), np.zeros(shapes[1]), confidence_threshold=0.5, novelty_threshold=1)


def test_a_cell_that_resembles_a_code_is_novel_and_says_which() -> None:
    rows = np.zeros((5, 8))
    rows[:, 3] = 0.2, 0.45, 0.3, 0.2, np.nan
    of_codes = np.array([[0.1, 0.7], [0.4, 0.1], [0.35, 0.3], [0.1, 0.7], [0.1, 0.7]])
    calls = decide(
        rows,
        np.array([0.5, 0.5, 0.5, 2.0, 0.5]),
        confidence_threshold=0.3,
        novelty_threshold=1,
        of_codes=of_codes,
        codes=("BL", "VLY"),
    )
    # the fourth is too far even from the cells of that code
    assert calls.resembles == ("VLY", None, "BL", None, None)
    assert calls.reasons == ("novel", "novel", "novel", "novel", "low_confidence")
