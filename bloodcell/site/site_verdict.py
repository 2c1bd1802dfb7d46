"""What a calibrated model may be used for at a site, in plain sentences, from what it did on slides left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES, CLASS_NAMES
from bloodcell.cells.metrics import Share
from bloodcell.evaluation.patient_intervals import counts_by_patient, share_interval
from bloodcell.presentation.numbers import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.evaluation.patient_intervals import Interval

MIN_CELLS: Final = 20
MIN_SLIDES: Final = 3
LEAST: Final = 0.8
"""Lower end of the 95 % interval that sensitivity and precision among the called need for a class to be used.

Our own choice, since no standard names a number: below it, one in five cells of the class may be wrong.
"""
LEAST_OF_ALL: Final = 0.9
"""As `LEAST`, for the share of all calls that are right."""


def verdict_of(
    calls: Calls, labels: NDArray[np.integer], slides: NDArray[np.integer], *, by_slide: bool
) -> tuple[str, ...]:
    """Returns what the model may be used for, and why not for the rest.

    Args:
        calls: Calls of the labelled cells by heads that were not fitted on their slide.
        labels: int (n,), their classes; from 8 on, codes out of scope.
        slides: int (n,), their slides.
        by_slide: Whether whole slides were left out; if not, nothing may be used.
    """
    if not by_slide:
        why = "all labelled cells are of one slide, so nothing is known of others"
        return (f"Must not be used: {why}. Next: label cells of at least {MIN_SLIDES} slides.",)
    called = ~calls.unclassified
    in_scope = labels < len(CELL_CLASSES)
    of_calls = _interval(slides[called], (calls.top == labels)[called])
    wrong_scope = _interval(slides[~in_scope], called[~in_scope]) if (~in_scope).any() else None
    sentences = []
    usable: list[str] = []
    unusable: list[str] = []
    for number, cell_class in enumerate(CELL_CLASSES):
        name = CLASS_NAMES[cell_class].lower()
        reason = _reason_against(calls, called, labels, slides, number)
        (unusable if reason else usable).append(f"{name} ({reason})" if reason else name)
    if of_calls is None or of_calls.lower < LEAST_OF_ALL or not usable:
        found = "it calls no cell" if of_calls is None else f"{_shown(of_calls)} of its calls are right"
        sentences.append(f"Must not be used: {found}; at least {percent(LEAST_OF_ALL)} is needed at the lower end.")
    else:
        sentences.append(f"May be used, with review by a person, for: {', '.join(usable)}.")
        sentences.append(f"{_shown(of_calls)} of its calls are right.")
    if unusable:
        sentences.append(f"Not for: {'; '.join(unusable)}.")
    if wrong_scope is not None:
        sentences.append(
            f"Of the labelled cells out of scope, {_shown(wrong_scope)} would be called one of the eight classes."
        )
    return tuple(sentences)


def _reason_against(
    calls: Calls, called: NDArray[np.bool_], labels: NDArray[np.integer], slides: NDArray[np.integer], number: int
) -> str:
    """Returns why a class may not be used; empty if it may."""
    of_class = labels == number
    n_slides = len(np.unique(slides[of_class]))
    if of_class.sum() < MIN_CELLS or n_slides < MIN_SLIDES:
        return f"{int(of_class.sum())} labelled cells of {n_slides} slides, {MIN_CELLS} of {MIN_SLIDES} are needed"
    named = called & (calls.top == number)
    sensitivity = _interval(slides[of_class & called], (calls.top == number)[of_class & called])
    precision = _interval(slides[named], of_class[named])
    for figure, found in (("sensitivity among the called", sensitivity), ("precision", precision)):
        if found is None:
            return "no cell is called so"
        if found.lower < LEAST:
            return f"{figure} {_shown(found)}"
    return ""


def _interval(slides: NDArray[np.integer], right: NDArray[np.bool_]) -> Interval | None:
    """Returns the share of True with its interval over slides; None without cells."""
    if not len(slides):
        return None
    row = np.unique(slides, return_inverse=True)[1]
    counts = counts_by_patient(row, int(row.max()) + 1, right.astype(np.int64), 2)
    return share_interval(Share(counts[:, 1], counts.sum(axis=1)))


def _shown(interval: Interval) -> str:
    return f"{percent(interval.value)} ({percent(interval.lower)} to {percent(interval.upper)})"
