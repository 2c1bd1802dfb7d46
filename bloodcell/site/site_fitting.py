"""One variant is fitted to a site: its head, temperature and thresholds, and what it does on slides left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.calls import decide
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.registry.rehearsal import read_rehearsal
from bloodcell.site.class_gaussians import Labelled, fit_class_gaussians
from bloodcell.site.cross_fitting import cross_fit
from bloodcell.site.site_head import Judged, SiteHead, head_of
from bloodcell.training.calibration import confidence_threshold, fit_temperature
from bloodcell.training.novelty import novelty_threshold

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.cross_fitting import CrossFitted
    from bloodcell.site.site_head import SiteOutputs

TARGET_RISK: Final = 0.03
"""Intended share of errors among the calls. With 2 %, one wrong label in fifty stops nearly all calls."""

NOVELTY_FLAG_RATE: Final = 0.05
"""Share of the labelled cells beyond the novelty threshold: a site knows few of its cells, so it is careful."""

MIN_CONFIDENCE: Final = 0.5

FEW_OF_ONE_SLIDE: Final = 10
"""A class with fewer labels, all of one slide, is as one without labels: no head that knows it can be measured."""

_ITSELF: Final = -1  # the part of cells of slides without a label: the head that was fitted on all labels


@dataclass(frozen=True, slots=True)
class Tuned:
    """What turns a head's scores and distances into calls.

    Attributes:
        temperature: Divisor of the scores.
        confidence: Confidence that a call needs.
        novelty: Largest distance of a call.
    """

    temperature: float
    confidence: float
    novelty: float


@dataclass(frozen=True, slots=True)
class SiteFit:
    """A variant, fitted to a site.

    What it does is measured on the labelled cells: the head that judges a cell was fitted without the cell's slide, and
    its temperature and thresholds were chosen on cells of other slides.

    Attributes:
        heads: One for each part of the slides, fitted on the others; then the head that was fitted on all labels.
        tuned: Of each head.
        codes: Codes out of scope that the heads know.
        crossed: What the heads make of the part of the slides that they were not fitted on.
        judged: The same, as probabilities and distances.
    """

    heads: tuple[SiteHead, ...]
    tuned: tuple[Tuned, ...]
    codes: tuple[str, ...]
    crossed: CrossFitted
    judged: Judged

    @property
    def calls(self) -> Calls:
        """What they call the labelled cells."""
        return self.calls_at(self.judged, self.crossed.parts)

    @property
    def head(self) -> SiteHead:
        """Fitted on all labels."""
        return self.heads[_ITSELF]

    @property
    def temperature(self) -> float:
        """Divisor of that head's scores."""
        return self.tuned[_ITSELF].temperature

    @property
    def confidence_threshold(self) -> float:
        """Confidence that a call of that head needs."""
        return self.tuned[_ITSELF].confidence

    @property
    def novelty_threshold(self) -> float:
        """Largest distance of a call of that head."""
        return self.tuned[_ITSELF].novelty

    def calls_at(self, judged: Judged, parts: NDArray[np.integer]) -> Calls:
        """Returns the calls of n cells, each by the thresholds of its part.

        Args:
            judged: What the heads make of the cells.
            parts: int (n,), the part of each.
        """
        confidence = np.array([self.tuned[part].confidence for part in parts], np.float64)
        return judged.calls(confidence, self.novelty_at(parts), self.codes)

    def novelty_at(self, parts: NDArray[np.integer]) -> NDArray[np.float64]:
        """Returns the largest distance of a call, float64 (n,), for cells of these parts."""
        return np.array([self.tuned[part].novelty for part in parts], np.float64)


def fit_site(
    parent: Bundle,
    labelled: SiteOutputs,
    labels: NDArray[np.integer],
    slides: NDArray[np.integer],
    others: SiteOutputs,
    codes: tuple[str, ...],
    on_part: Callable[[int, int], None],
    *,
    may_judge: NDArray[np.bool_] | None = None,
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
        may_judge: bool (n,), of labelled cells that may choose temperature and thresholds; None: all.

    Raises:
        BundleError: The parent has no rehearsal.
    """
    rehearsal, n_classes = read_rehearsal(parent), len(CELL_CLASSES) + len(codes)
    learnt = Labelled(rehearsal.features.astype(np.float32), rehearsal.labels.astype(np.int64))
    crossed = cross_fit(learnt, labelled, labels, slides, others.features, n_classes, on_part)
    if may_judge is not None:
        crossed = replace(crossed, can_judge=crossed.can_judge & may_judge)
    teaching = _teaching(labels, slides)
    taught = Labelled(labelled.features[teaching], labels[teaching])
    gaussians = fit_class_gaussians(learnt, taught, others.features, n_classes)
    head = head_of(gaussians, labelled[teaching], taught.labels)

    judged = Judged.nothing(len(labels), len(codes))
    tuned = []
    for part in (*range(len(crossed.heads)), _ITSELF):
        rest = crossed.parts != part
        one, of_all = _tuned(crossed, labelled, labels, rest)
        judged.put(~rest, of_all[~rest])
        tuned.append(one)
    return SiteFit((*crossed.heads, head), tuple(tuned), codes, crossed, judged)


def _teaching(labels: NDArray[np.integer], slides: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Returns the cells that the head learns: all but those of classes with a few labels of one slide, bool (n,)."""
    lonely = [
        each
        for each in range(len(CELL_CLASSES))
        if 0 < (labels == each).sum() < FEW_OF_ONE_SLIDE and len(np.unique(slides[labels == each])) == 1
    ]
    teaching = ~np.isin(labels, lonely)
    in_scope = teaching & (labels < len(CELL_CLASSES))
    return teaching if len(np.unique(labels[in_scope])) > 1 else np.ones(len(labels), bool)


def _tuned(
    crossed: CrossFitted, labelled: SiteOutputs, labels: NDArray[np.integer], rows: NDArray[np.bool_]
) -> tuple[Tuned, Judged]:
    """Returns temperature and thresholds, fitted on `rows`, and what is made of all labelled cells with them."""
    judging = _judging(crossed.can_judge & rows, rows)
    temperature = fit_temperature(crossed.scores[judging], labels[judging])
    judged = crossed.judge(labelled, temperature)
    thresholds = thresholds_of(judged.probabilities, crossed.distance, labels, crossed.can_judge, rows)
    return Tuned(temperature, *thresholds), judged


def _judging(*choices: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the first of these choices of cells that is not empty, or all cells."""
    return next((each for each in choices if each.any()), np.ones(len(choices[0]), bool))


def thresholds_of(
    probabilities: NDArray[np.floating],
    distance: NDArray[np.floating],
    labels: NDArray[np.integer],
    can_judge: NDArray[np.bool_],
    rows: NDArray[np.bool_],
) -> tuple[float, float]:
    """Returns the confidence that a call needs and the largest distance of one.

    Args:
        probabilities: float (n, 8), of the labelled cells, by heads that were not fitted on their slide.
        distance: float (n,), of the same, to the nearest class that the head knows.
        labels: int (n,), their classes.
        can_judge: bool (n,), of the cells whose class these heads know.
        rows: bool (n,), the cells that choose the thresholds.
    """
    in_scope = labels < len(CELL_CLASSES)
    judging = _judging(rows & can_judge & in_scope, rows & in_scope, in_scope)
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


def judge_others(fit: SiteFit, outputs: SiteOutputs, parts: NDArray[np.integer]) -> Judged:
    """Returns what is made of cells that are not among the labelled ones.

    Args:
        fit: The fitted variant.
        outputs: The parent's outputs for the cells.
        parts: int (n,), the part of each cell's slide (`parts_of`).
    """
    judged = Judged.nothing(len(parts), len(fit.codes))
    for part in np.unique(parts):
        rows, head = parts == part, fit.heads[part]
        features = outputs.features[rows]
        scores, distance = head.gaussians.scores(features), head.gaussians.distance(features)
        judged.put(rows, head.judge(scores, distance, outputs[rows], fit.tuned[part].temperature))
    return judged


def parts_of(fit: SiteFit, slides: NDArray[np.integer], others: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the part of the slides that each of some other cells belongs to, int64 (m,); -1 for other slides.

    Args:
        fit: The fitted variant.
        slides: int (n,), the slides of the labelled cells.
        others: int (m,), the slides of the others.
    """
    known = dict(zip(slides.tolist(), fit.crossed.parts.tolist(), strict=True)) if fit.crossed.by_slide else {}
    return np.array([known.get(slide, _ITSELF) for slide in others.tolist()], np.int64)


def calls_by(fit: SiteFit, outputs: SiteOutputs) -> tuple[Judged, Calls]:
    """Returns what the head that was fitted on all labels makes of cells, and its calls.

    Args:
        fit: The fitted variant.
        outputs: The parent's outputs for cells that are not among the labelled ones.
    """
    judged = judge_others(fit, outputs, np.full(len(outputs.novelty), _ITSELF))
    return judged, judged.calls(fit.confidence_threshold, fit.novelty_threshold, fit.codes)
