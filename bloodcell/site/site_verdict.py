"""What a calibrated model may be used for at a site, in plain sentences, from what it did on slides left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.presentation.numbers import counted, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bloodcell.evaluation.comparison_records import ClassFigures, Comparison
    from bloodcell.evaluation.patient_intervals import Interval

MIN_CELLS: Final = 20
MIN_SLIDES: Final = 3
LEAST: Final = 0.8
"""Lower end of the 95 % interval that sensitivity and precision among the called need for a class to be used.

Our own choice, since no standard names a number: below it, one in five cells of the class may be wrong.
"""
LEAST_OF_ALL: Final = 0.9
"""As `LEAST`, for the share of all calls that are right."""

_MUST_NOT: Final = "Must not be used"


def verdict_of(
    comparison: Comparison, labels: NDArray[np.integer], slides: NDArray[np.integer], *, by_slide: bool
) -> tuple[str, ...]:
    """Returns what the model may be used for, and why not for the rest.

    Args:
        comparison: Of the calibrated model, on cells of slides that it was not fitted on, with its parent.
        labels: int (n,), the classes of the labelled cells; from 8 on, codes out of scope.
        slides: int (n,), their slides.
        by_slide: Whether whole slides were left out; if not, nothing may be used.
    """
    if not by_slide:
        why = "all labelled cells count as one slide, so nothing is known of others"
        where = "in a folder for each slide, or with the column slide"
        return (f"{_MUST_NOT}: {why}. Next: label cells of at least {MIN_SLIDES} slides, {where}.",)
    figures = comparison.candidate
    if figures is None:
        return (f"{_MUST_NOT}: no labelled cell is of one of the eight classes.",)
    usable: list[str] = []
    unusable: list[str] = []
    for number, of_class in enumerate(figures.classes):
        name = CLASS_NAMES[of_class.cell_class].lower()
        reason = _reason_against(of_class, len(np.unique(slides[labels == number])))
        (unusable if reason else usable).append(f"{name} ({reason})" if reason else name)
    of_calls, sentences = figures.covered_accuracy, []
    if of_calls is None:
        sentences.append(f"{_MUST_NOT}: it calls no cell.")
    elif of_calls.lower < LEAST_OF_ALL:
        found = f"{_shown(of_calls)} of its calls are right"
        sentences.append(f"{_MUST_NOT}: {found}; the lower end has to be at least {percent(LEAST_OF_ALL, 0)}.")
    elif not usable:
        sentences.append(
            f"{_MUST_NOT}: {_shown(of_calls)} of its calls are right, but no class meets the requirements."
        )
    else:
        sentences.append(f"May be used, with review by a person, for: {', '.join(usable)}.")
        sentences.append(f"{_shown(of_calls)} of its calls are right.")
    if unusable:
        sentences.append(f"Not for: {'; '.join(unusable)}.")
    if figures.held_back is not None:
        sentences.append(f"Of the labelled cells out of scope, {_shown(figures.held_back)} stay unclassified.")
    return tuple(sentences)


def may_be_used(verdict: Sequence[str]) -> bool:
    """Returns whether a verdict allows any class."""
    return not verdict[0].startswith(_MUST_NOT)


def _reason_against(figures: ClassFigures, n_slides: int) -> str:
    """Returns why a class may not be used; empty if it may."""
    if figures.n_true < MIN_CELLS or n_slides < MIN_SLIDES:
        received = f"{counted(figures.n_true, 'labelled cell')} of {counted(n_slides, 'slide')}"
        return f"{received}, {MIN_CELLS} cells of {MIN_SLIDES} slides are needed"
    for name, found in (("sensitivity among the called", figures.sensitivity), ("precision", figures.precision)):
        if found is None:
            return "no labelled cell was called this class"
        if found.lower < LEAST:
            return f"{name} {_shown(found)}, lower end below {percent(LEAST, 0)}"
    return ""


def _shown(interval: Interval) -> str:
    return f"{percent(interval.value)} ({percent(interval.lower)} to {percent(interval.upper)})"
