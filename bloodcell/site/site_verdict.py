"""What a calibrated model may be used for at a site, in plain sentences, from what it did on slides left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.presentation.numbers import counted, percent
from bloodcell.site.site_comparison import call_figures, code_figures, compare_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bloodcell.evaluation.comparison_records import ClassFigures, Comparison
    from bloodcell.evaluation.patient_intervals import Interval
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.site_cells import SiteCells
    from bloodcell.site.site_comparison import CallFigures, CodeFigures, SiteCalls
    from bloodcell.site.site_head import SiteOutputs

MIN_CELLS: Final = 20
MIN_SLIDES: Final = 3
LEAST: Final = 0.8
"""Lower end of the 95 % interval that sensitivity and precision among the called need for a class to be used.

Our own choice, since no standard names a number: below it, one in five cells of the class may be wrong.
"""
LEAST_OF_ALL: Final = 0.9
"""As `LEAST`, for the share of all calls that are right."""
LEAST_HELD_BACK: Final = 0.5
"""Share of the labelled cells out of scope that has to stay unclassified. Our own choice: below, most are called."""

_MUST_NOT: Final = "Must not be used"


def measure(
    site: SiteCalls,
    parent: Bundle,
    as_is: SiteOutputs,
    cells: SiteCells,
    judging: NDArray[np.bool_],
    *,
    by_slide: bool,
) -> tuple[Comparison, tuple[CodeFigures, ...], tuple[str, ...]]:
    """Returns what a calibrated model does beside its parent, how it recognises codes, and the verdict.

    Args:
        site: What it makes of the cells, of slides that it was not fitted on.
        parent: The model that it was calibrated from.
        as_is: The parent's outputs for the whole images of the labelled cells, then of the cells of other codes.
        cells: The cells.
        judging: bool (n,), the labelled cells that figures are of.
        by_slide: Whether whole slides were left out; if not, nothing may be used.
    """
    comparison = compare_with_parent(parent, site, as_is, cells, judging)
    labels, slides = cells.labels[judging], cells.slides[judging]
    verdict = verdict_of(comparison, call_figures(site, cells, judging), labels, slides, by_slide=by_slide)
    return comparison, code_figures(site.calls, cells, judging), verdict


def verdict_of(
    comparison: Comparison,
    of_calls: CallFigures,
    labels: NDArray[np.integer],
    slides: NDArray[np.integer],
    *,
    by_slide: bool,
) -> tuple[str, ...]:
    """Returns what the model may be used for, and why not for the rest.

    Args:
        comparison: Of the calibrated model, on cells of slides that it was not fitted on, with its parent.
        of_calls: How often its calls are right, calls of cells out of scope included.
        labels: int (n,), the classes of these cells; from 8 on, codes out of scope.
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
    for number, (of_class, precision) in enumerate(zip(figures.classes, of_calls.by_class, strict=True)):
        name = CLASS_NAMES[of_class.cell_class].lower()
        reason = _reason_against(of_class, precision, len(np.unique(slides[labels == number])))
        (unusable if reason else usable).append(f"{name} ({reason})" if reason else name)
    held_back, sentences = figures.held_back, _on_all_calls(of_calls.right, figures.held_back, usable)
    if unusable:
        sentences.append(f"Not for: {'; '.join(unusable)}.")
    if held_back is None:
        sentences.append("Nothing is known of blasts and other cells out of scope: none is labelled.")
    elif held_back.value >= LEAST_HELD_BACK:
        sentences.append(f"Of the labelled cells out of scope, {_shown(held_back)} stay unclassified.")
    return tuple(sentences)


def _on_all_calls(right: Interval | None, held_back: Interval | None, usable: Sequence[str]) -> list[str]:
    """Returns the first sentences of a verdict: whether the model may be used at all, and how often it is right."""
    if right is None:
        return [f"{_MUST_NOT}: it calls no cell."]
    found = f"{_shown(right)} of its calls are right"
    if right.lower < LEAST_OF_ALL:
        return [f"{_MUST_NOT}: {found}; the lower end has to be at least {percent(LEAST_OF_ALL, 0)}."]
    if held_back is not None and held_back.value < LEAST_HELD_BACK:
        of_others = f"only {_shown(held_back)} of the labelled cells out of scope stay unclassified"
        return [f"{_MUST_NOT}: {of_others}; at least {percent(LEAST_HELD_BACK, 0)} have to."]
    if not usable:
        return [f"{_MUST_NOT}: {found}, but no class meets the requirements."]
    return [f"May be used, with review by a person, for: {', '.join(usable)}.", f"{found}."]


def may_be_used(verdict: Sequence[str]) -> bool:
    """Returns whether a verdict allows any class."""
    return not verdict[0].startswith(_MUST_NOT)


def _reason_against(figures: ClassFigures, precision: Interval | None, n_slides: int) -> str:
    """Returns why a class may not be used; empty if it may."""
    if figures.n_true < MIN_CELLS or n_slides < MIN_SLIDES:
        received = f"{counted(figures.n_true, 'labelled cell')} of {counted(n_slides, 'slide')}"
        return f"{received}, {MIN_CELLS} cells of {MIN_SLIDES} slides are needed"
    for name, found in (("sensitivity among the called", figures.sensitivity), ("precision", precision)):
        if found is None:
            return "no labelled cell was called this class"
        if found.lower < LEAST:
            return f"{name} {_shown(found)}, lower end below {percent(LEAST, 0)}"
    return ""


def _shown(interval: Interval) -> str:
    return f"{percent(interval.value)} ({percent(interval.lower)} to {percent(interval.upper)})"
