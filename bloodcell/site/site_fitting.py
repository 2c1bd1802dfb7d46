"""One variant is fitted to a site: its head, temperature and thresholds, and what it does on slides left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.cells.calls import decide
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.registry.rehearsal import read_rehearsal
from bloodcell.site.class_gaussians import Labelled, fit_class_gaussians
from bloodcell.site.cross_fitting import cross_fit
from bloodcell.training.calibration import class_probabilities, confidence_threshold, fit_temperature
from bloodcell.training.novelty import novelty_threshold

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.class_gaussians import ClassGaussians

TARGET_RISK: Final = 0.02
"""Intended share of errors among the calls, as in the recipes of training."""

NOVELTY_FLAG_RATE: Final = 0.05
"""Share of the labelled cells beyond the novelty threshold: a site knows few of its cells, so it is careful."""

MIN_CONFIDENCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class SiteOutputs:
    """What a parent makes of a site's images.

    Attributes:
        features: float32 (n, d), which its head sees.
        probabilities: float32 (n, 8), its own.
        novelty: float32 (n,), its own.
    """

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    novelty: NDArray[np.float32]

    def __getitem__(self, rows: Any) -> SiteOutputs:
        """Returns the outputs of some of the images."""
        return SiteOutputs(self.features[rows], self.probabilities[rows], self.novelty[rows])

    @property
    def of_any_class(self) -> NDArray[np.float64]:
        """Probability that the cell is of one of the eight classes at all, float64 (n,)."""
        return np.asarray(self.probabilities.sum(axis=1, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class SiteFit:
    """A variant, fitted to a site.

    Attributes:
        head: Fitted on all labels.
        temperature: Divisor of its scores.
        confidence_threshold: Confidence that a call needs.
        novelty_threshold: Largest distance of a call.
        probabilities: float64 (n, 8), of the labelled cells, by heads that were not fitted on their slide.
        distance: float64 (n,), of the same.
        calls: What these heads call them.
        by_slide: Whether whole slides were left out.
    """

    head: ClassGaussians
    temperature: float
    confidence_threshold: float
    novelty_threshold: float
    probabilities: NDArray[np.float64]
    distance: NDArray[np.float64]
    calls: Calls
    by_slide: bool


def fit_site(
    parent: Bundle,
    labelled: SiteOutputs,
    labels: NDArray[np.integer],
    slides: NDArray[np.integer],
    others: SiteOutputs,
    n_classes: int,
    on_part: Callable[[int, int], None],
) -> SiteFit:
    """Returns the variant `parent`, fitted to a site.

    Args:
        parent: The model whose network is used.
        labelled: Outputs for the labelled cells.
        labels: int (n,), their classes; from 8 on, codes that only the site knows.
        slides: int (n,), their slides.
        others: Outputs for cells without a label.
        n_classes: Classes of the head, at least 8.
        on_part: Called with the number of parts of the cross-fitting done, and the total.

    Raises:
        BundleError: The parent has no rehearsal.
    """
    rehearsal = read_rehearsal(parent)
    learnt = Labelled(rehearsal.features.astype(np.float32), rehearsal.labels.astype(np.int64))
    site = Labelled(labelled.features, labels)
    crossed = cross_fit(learnt, site, slides, others.features, n_classes, on_part)
    temperature = fit_temperature(crossed.scores, labels)
    probabilities = class_probabilities(crossed.scores, temperature) * labelled.of_any_class[:, None]
    in_scope = labels < len(CELL_CLASSES)
    threshold = confidence_threshold(
        probabilities[in_scope], labels[in_scope], target_risk=TARGET_RISK, min_coverage=0.0, floor=MIN_CONFIDENCE
    )
    novelty = novelty_threshold(crossed.distance[in_scope], NOVELTY_FLAG_RATE)
    calls = decide(probabilities, crossed.distance, confidence_threshold=threshold, novelty_threshold=novelty)
    head = fit_class_gaussians(learnt, site, others.features, n_classes)
    return SiteFit(head, temperature, threshold, novelty, probabilities, crossed.distance, calls, crossed.by_slide)


def calls_of_parent(parent: Bundle, outputs: SiteOutputs) -> Calls:
    """Returns what a parent calls cells, by its own thresholds."""
    return decide(
        outputs.probabilities,
        outputs.novelty,
        confidence_threshold=parent.manifest.confidence_threshold,
        novelty_threshold=parent.manifest.novelty_threshold,
    )


def calls_by(fit: SiteFit, outputs: SiteOutputs) -> tuple[NDArray[np.float64], NDArray[np.float64], Calls]:
    """Returns probabilities (n, 8), distances (n,) and calls by the head that was fitted on all labels.

    Args:
        fit: The fitted variant.
        outputs: The parent's outputs for cells that are not among the labelled ones.
    """
    probabilities = (
        class_probabilities(fit.head.scores(outputs.features), fit.temperature) * outputs.of_any_class[:, None]
    )
    distance = fit.head.distance(outputs.features)
    calls = decide(
        probabilities,
        distance,
        confidence_threshold=fit.confidence_threshold,
        novelty_threshold=fit.novelty_threshold,
    )
    return probabilities, distance, calls
