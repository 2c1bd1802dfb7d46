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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.evaluation.comparison_records import Comparison
    from bloodcell.evaluation.patient_intervals import Interval
    from bloodcell.registry.bundle import Bundle
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


def code_figures(
    codes: Sequence[str], calls: Calls, labels: NDArray[np.integer], slides: NDArray[np.integer]
) -> tuple[CodeFigures, ...]:
    """Returns the figures of each code that a model knows.

    Args:
        codes: The codes.
        calls: Of the labelled cells.
        labels: int (n,), the classes of the labelled cells; from 8 on, those codes.
        slides: int (n,), their slides.
    """
    resembles, found = np.array(calls.resembles, dtype=object), []
    for number, code in enumerate(codes, start=len(CELL_CLASSES)):
        is_code, is_named = labels == number, resembles == code
        held_back, named = (
            _by_slide(is_code & found_so, is_code, slides) for found_so in (calls.unclassified, is_named)
        )
        n_others = int((~is_code & is_named).sum())
        found.append(CodeFigures(code, int(is_code.sum()), held_back, named, n_others))
    return tuple(found)


def _by_slide(counted: NDArray[np.bool_], of_all: NDArray[np.bool_], slides: NDArray[np.integer]) -> Interval | None:
    n, total = (np.bincount(slides[each], minlength=len(slides)).astype(np.float64) for each in (counted, of_all))
    return share_interval(Share(n, total))


def compare_with_parent(
    parent: Bundle,
    site: SiteCalls,
    as_is: SiteOutputs,
    labels: NDArray[np.integer],
    slides: NDArray[np.integer],
    out_of_scope_slides: NDArray[np.integer],
) -> Comparison:
    """Returns the comparison: the candidate is the calibrated variant, the champion is its parent.

    The candidate predicts each labelled cell by a head that was not fitted on its slide.

    Args:
        parent: The model that the variant was calibrated from.
        site: What the calibrated variant makes of the cells.
        as_is: The parent's outputs for the whole images of the labelled cells, then of the cells of other codes.
        labels: int (n,), their classes; from 8 on, codes out of scope that the site's model knows.
        slides: int (n,), their slides.
        out_of_scope_slides: int (m,), the slides of the cells of other codes.
    """
    known = labels >= len(CELL_CLASSES)  # cells of codes that the head knows are out of scope as well
    inside, labelled, out_of_scope = ~known, as_is[: len(labels)], as_is[len(labels) :]
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
        out_of_scope_patients=np.concatenate([slides[known], out_of_scope_slides]).astype(np.int64),
    )
    return compare(holdout, [candidate, champion])
