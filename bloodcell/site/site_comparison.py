"""A calibrated variant beside its parent, on the site's labelled cells; every figure has its interval over slides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.metrics import Share
from bloodcell.evaluation.comparison_records import Holdout, Predictions
from bloodcell.evaluation.model_comparison import compare
from bloodcell.evaluation.patient_intervals import share_interval
from bloodcell.site.site_fitting import calls_of_parent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.evaluation.comparison_records import Comparison
    from bloodcell.evaluation.patient_intervals import Interval
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.site_cells import SiteCells
    from bloodcell.site.site_head import Judged, SiteOutputs


@dataclass(frozen=True, slots=True)
class CodeFigures:
    """How a code out of scope that the head knows is recognised, on slides that it was not fitted on.

    Attributes:
        code: The code.
        n_cells: Labelled cells of the code.
        held_back: Share of them that stays unclassified, with its interval over slides.
        named: Share of them that are said to resemble it, with its interval over slides.
        n_others: Other labelled cells that are said to resemble it.
    """

    code: str
    n_cells: int
    held_back: Interval | None
    named: Interval | None
    n_others: int


@dataclass(frozen=True, slots=True)
class SiteCalls:
    """What a calibrated model makes of a site's cells.

    Attributes:
        title: What the model is called.
        judged: Of the labelled cells, each by a head that was not fitted on its slide.
        calls: Of the same.
        outside: Of the cells of codes that it does not know.
        outside_calls: Of the same.
        novelty_threshold: Largest distance of a call.
    """

    title: str
    judged: Judged
    calls: Calls
    outside: Judged
    outside_calls: Calls
    novelty_threshold: float


@dataclass(frozen=True, slots=True)
class CallFigures:
    """How often calls are right, where a call of a cell out of scope counts as wrong; None without such calls.

    Attributes:
        right: Of all calls.
        by_class: Of the calls of each class, in the order of `CELL_CLASSES`.
    """

    right: Interval | None
    by_class: tuple[Interval | None, ...]


def call_figures(site: SiteCalls, cells: SiteCells, judging: NDArray[np.bool_]) -> CallFigures:
    """Returns how often the calls of a calibrated model are right.

    Args:
        site: What it makes of the cells.
        cells: The cells.
        judging: bool (n,), the labelled cells that figures are of.
    """
    outside = len(cells.out_of_scope)
    of_all = np.concatenate([judging, np.ones(outside, bool)])
    called = np.concatenate([~site.calls.unclassified, ~site.outside_calls.unclassified]) & of_all
    top = np.concatenate([site.calls.top, site.outside_calls.top])
    right = called & (top == np.concatenate([cells.labels, np.full(outside, -1)]))
    slides = np.concatenate([cells.slides, cells.out_of_scope_slides])
    by_class = ((right & (top == each), called & (top == each)) for each in range(len(CELL_CLASSES)))
    return CallFigures(_by_slide(right, called, slides), tuple(_by_slide(*each, slides) for each in by_class))


def code_figures(calls: Calls, cells: SiteCells, judging: NDArray[np.bool_]) -> tuple[CodeFigures, ...]:
    """Returns the figures of each code that a model knows.

    Args:
        calls: Of the labelled cells.
        cells: The cells.
        judging: bool (n,), the labelled cells that figures are of.
    """
    resembles, found = np.array(calls.resembles, dtype=object), []
    labels, slides = np.where(judging, cells.labels, -1), cells.slides
    for number, code in enumerate(cells.codes, start=len(CELL_CLASSES)):
        is_code, is_named = labels == number, (resembles == code) & judging
        held_back, named = (
            _by_slide(is_code & found_so, is_code, slides) for found_so in (calls.unclassified, is_named)
        )
        n_others = int((~is_code & is_named).sum())
        found.append(CodeFigures(code, int(is_code.sum()), held_back, named, n_others))
    return tuple(found)


def _by_slide(counted: NDArray[np.bool_], of_all: NDArray[np.bool_], slides: NDArray[np.integer]) -> Interval | None:
    n_slides = int(slides.max()) + 1
    n, total = (np.bincount(slides[each], minlength=n_slides).astype(np.float64) for each in (counted, of_all))
    return share_interval(Share(n, total))


def compare_with_parent(
    parent: Bundle,
    site: SiteCalls,
    as_is: SiteOutputs,
    cells: SiteCells,
    judging: NDArray[np.bool_],
) -> Comparison:
    """Returns the comparison: the candidate is the calibrated variant, the champion is its parent.

    The candidate predicts each labelled cell by a head that was not fitted on its slide.

    Args:
        parent: The model that the variant was calibrated from.
        site: What the calibrated variant makes of the cells.
        as_is: The parent's outputs for the whole images of the labelled cells, then of the cells of other codes.
        cells: The cells.
        judging: bool (n,), the labelled cells that figures are of.
    """
    labels, slides = cells.labels, cells.slides
    is_code = labels >= len(CELL_CLASSES)  # cells of codes that the head knows are out of scope as well
    known, inside = is_code & judging, ~is_code & judging
    labelled, out_of_scope = as_is[: len(labels)], as_is[len(labels) :]
    before, before_outside = (calls_of_parent(parent, each).unclassified for each in (labelled, out_of_scope))
    judged, calls = site.judged, site.calls
    candidate = Predictions(
        model_id=f"{parent.model_id[:12]} calibrated",
        variant=site.title,
        role="candidate",
        probabilities=judged.probabilities[inside],
        unclassified=calls.unclassified[inside],
        novelty=judged.distance[inside],
        out_of_scope_unclassified=np.concatenate([calls.unclassified[known], site.outside_calls.unclassified]),
        out_of_scope_novelty=np.concatenate([judged.distance[known], site.outside.distance]),
        novelty_threshold=site.novelty_threshold,
    )
    champion = Predictions(
        model_id=parent.model_id,
        variant=parent.manifest.variant,
        role="champion",
        probabilities=labelled.probabilities[inside],
        unclassified=before[inside],
        novelty=labelled.novelty[inside],
        out_of_scope_unclassified=np.concatenate([before[known], before_outside]),
        out_of_scope_novelty=np.concatenate([labelled.novelty[known], out_of_scope.novelty]),
        novelty_threshold=parent.manifest.novelty_threshold,
    )
    holdout = Holdout(
        truth=labels[inside].astype(np.int64),
        patients=slides[inside].astype(np.int64),
        slides=slides[inside].astype(np.int64),
        out_of_scope_patients=np.concatenate([slides[known], cells.out_of_scope_slides]).astype(np.int64),
    )
    return compare(holdout, [candidate, champion])
