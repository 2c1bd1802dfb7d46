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
        judged: What is made of the labelled cells by heads that were not fitted on their slide.
        calls: What these heads call them.
        by_slide: Whether whole slides were left out.
    """

    head: SiteHead
    temperature: float
    confidence_threshold: float
    novelty_threshold: float
    codes: tuple[str, ...]
    judged: Judged
    calls: Calls
    by_slide: bool


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
    judging = judging & (labels < len(CELL_CLASSES))
    threshold = confidence_threshold(
        judged.probabilities[judging], labels[judging], target_risk=TARGET_RISK, min_coverage=0.0, floor=MIN_CONFIDENCE
    )
    novelty = novelty_threshold(crossed.distance[judging], NOVELTY_FLAG_RATE)
    calls = judged.calls(threshold, novelty, codes)
    gaussians = fit_class_gaussians(learnt, Labelled(labelled.features, labels), others.features, n_classes)
    head = SiteHead(gaussians, unknown_limit(gaussians, labelled))
    return SiteFit(head, temperature, threshold, novelty, codes, judged, calls, crossed.by_slide)


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
