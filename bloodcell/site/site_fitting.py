"""One variant is fitted to a site: its head, temperature and thresholds, and what it does on slides left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.calls import decide
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.registry.rehearsal import read_rehearsal
from bloodcell.site.class_gaussians import Labelled, fit_class_gaussians
from bloodcell.site.cross_fitting import cross_fit
from bloodcell.site.site_head import SiteHead, unknown_limit
from bloodcell.training.calibration import confidence_threshold, fit_temperature
from bloodcell.training.novelty import novelty_threshold

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.cross_fitting import CrossFitted
    from bloodcell.site.site_head import Judged, SiteOutputs

TARGET_RISK: Final = 0.03
"""Intended share of errors among the calls. With 2 %, one wrong label in fifty stops nearly all calls."""

NOVELTY_FLAG_RATE: Final = 0.05
"""Share of the labelled cells beyond the novelty threshold: a site knows few of its cells, so it is careful."""

MIN_CONFIDENCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class SiteFit:
    """A variant, fitted to a site.

    Attributes:
        head: Fitted on all labels.
        temperature: Divisor of its scores.
        confidence_threshold: Confidence that a call needs.
        novelty_threshold: Largest distance of a call.
        codes: Codes out of scope that the head knows.
        crossed: Heads that were not fitted on the slide of the cell that they predict.
        judged: What they make of the labelled cells.
        calls: What they call them.
    """

    head: SiteHead
    temperature: float
    confidence_threshold: float
    novelty_threshold: float
    codes: tuple[str, ...]
    crossed: CrossFitted
    judged: Judged
    calls: Calls


def fit_site(
    parent: Bundle,
    labelled: SiteOutputs,
    labels: NDArray[np.integer],
    slides: NDArray[np.integer],
    others: SiteOutputs,
    codes: tuple[str, ...],
    on_part: Callable[[int, int], None],
) -> SiteFit:
    """Returns the variant `parent`, fitted to a site.

    Args:
        parent: The model whose network is used.
        labelled: Outputs for the labelled cells.
        labels: int (n,), their classes; from 8 on, codes that only the site knows.
        slides: int (n,), their slides.
        others: Outputs for cells without a label.
        codes: Those codes.
        on_part: Called with the number of parts of the cross-fitting done, and the total.

    Raises:
        BundleError: The parent has no rehearsal.
    """
    rehearsal, n_classes = read_rehearsal(parent), len(CELL_CLASSES) + len(codes)
    learnt = Labelled(rehearsal.features.astype(np.float32), rehearsal.labels.astype(np.int64))
    crossed = cross_fit(learnt, labelled, labels, slides, others.features, n_classes, on_part)
    judging = crossed.can_judge if crossed.can_judge.any() else np.ones(len(labels), bool)
    temperature = fit_temperature(crossed.scores[judging], labels[judging])
    judged = crossed.judge(labelled, temperature)
    threshold, novelty = thresholds_of(judged.probabilities, crossed.distance, labels, crossed.can_judge)
    calls = judged.calls(threshold, novelty, codes)
    gaussians = fit_class_gaussians(learnt, Labelled(labelled.features, labels), others.features, n_classes)
    head = SiteHead(gaussians, unknown_limit(gaussians, labelled))
    return SiteFit(head, temperature, threshold, novelty, codes, crossed, judged, calls)


def thresholds_of(
    probabilities: NDArray[np.floating],
    distance: NDArray[np.floating],
    labels: NDArray[np.integer],
    can_judge: NDArray[np.bool_],
) -> tuple[float, float]:
    """Returns the confidence that a call needs and the largest distance of one.

    Args:
        probabilities: float (n, 8), of the labelled cells, by heads that were not fitted on their slide.
        distance: float (n,), of the same, to the nearest class that the head knows.
        labels: int (n,), their classes.
        can_judge: bool (n,), of the cells whose class these heads know.
    """
    judging = (can_judge if can_judge.any() else np.ones(len(labels), bool)) & (labels < len(CELL_CLASSES))
    confidence = confidence_threshold(
        probabilities[judging], labels[judging], target_risk=TARGET_RISK, min_coverage=0.0, floor=MIN_CONFIDENCE
    )
    return confidence, novelty_threshold(distance[judging], NOVELTY_FLAG_RATE)


def calls_of_parent(parent: Bundle, outputs: SiteOutputs) -> Calls:
    """Returns what a parent calls cells, by its own thresholds."""
    return decide(
        outputs.probabilities,
        outputs.novelty,
        confidence_threshold=parent.manifest.confidence_threshold,
        novelty_threshold=parent.manifest.novelty_threshold,
    )


def calls_by(fit: SiteFit, outputs: SiteOutputs) -> tuple[Judged, Calls]:
    """Returns what the head that was fitted on all labels makes of cells, and its calls.

    Args:
        fit: The fitted variant.
        outputs: The parent's outputs for cells that are not among the labelled ones.
    """
    gaussians = fit.head.gaussians
    scores, distance = gaussians.scores(outputs.features), gaussians.distance(outputs.features)
    judged = fit.head.judge(scores, distance, outputs, fit.temperature)
    return judged, judged.calls(fit.confidence_threshold, fit.novelty_threshold, fit.codes)
