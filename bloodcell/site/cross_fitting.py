"""What a site's head does on slides that it was not fitted on, measured on the labelled cells themselves.

The labelled slides are divided into parts. Each part is predicted by a head that was fitted on the others, so that
every labelled cell is predicted once, by a head that knows nothing of its slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.site.class_gaussians import Labelled, fit_class_gaussians
from bloodcell.site.site_head import Judged, SiteHead, SiteOutputs, head_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MAX_PARTS: Final = 10
"""Parts of the slides: with more, each head is fitted on nearly all labels, and the time grows."""


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """Predictions of each labelled cell by a head that was not fitted on its slide.

    Attributes:
        scores: float64 (n, n_classes).
        distance: float64 (n,), to the nearest class.
        parts: int64 (n,), the part of each cell.
        heads: The head that predicted each part.
        can_judge: bool (n,), whether the head knew the cell's class, from labels of other slides. A class whose labels
            are all of one slide says nothing about temperature and thresholds.
        by_slide: Whether whole slides were left out; False if there is only one, and then the figures are too good.
    """

    scores: NDArray[np.float64]
    distance: NDArray[np.float64]
    parts: NDArray[np.int64]
    heads: tuple[SiteHead, ...]
    can_judge: NDArray[np.bool_]
    by_slide: bool

    def judge(self, outputs: SiteOutputs, temperature: float) -> Judged:
        """Returns what is made of each labelled cell by the head that was not fitted on its slide.

        Args:
            outputs: The parent's, for the labelled cells.
            temperature: Divisor of the scores.
        """
        n_cells, n_classes = self.scores.shape
        judged = Judged.nothing(n_cells, n_classes - len(CELL_CLASSES))
        for part, head in enumerate(self.heads):
            rows = self.parts == part
            of_part = head.judge(self.scores[rows], self.distance[rows], outputs[rows], temperature)
            judged.put(rows, of_part)
        return judged


def cross_fit(
    learnt: Labelled,
    outputs: SiteOutputs,
    labels: NDArray[np.integer],
    slides: NDArray[np.integer],
    unlabelled: NDArray[np.floating],
    n_classes: int,
    on_part: Callable[[int, int], None],
) -> CrossFitted:
    """Returns the predictions of every labelled cell.

    Args:
        learnt: Cells that the model was trained on.
        outputs: The parent's, for the labelled cells of the site.
        labels: int (n,), their classes.
        slides: int (n,), their slides.
        unlabelled: Features of further cells of the site.
        n_classes: Classes of the head.
        on_part: Called with the number of parts done, and the total.
    """
    by_slide = len(np.unique(slides)) > 1
    parts = _parts(slides if by_slide else np.arange(len(slides)))
    n_parts = int(parts.max()) + 1
    scores, distance = np.zeros((len(slides), n_classes)), np.zeros(len(slides))
    can_judge, heads = np.zeros(len(slides), bool), []
    for part in range(n_parts):
        held = parts == part
        gaussians = fit_class_gaussians(learnt, Labelled(outputs.features[~held], labels[~held]), unlabelled, n_classes)
        features = outputs.features[held]
        scores[held], distance[held] = gaussians.scores(features), gaussians.distance(features)
        can_judge[held] = gaussians.known[labels[held]]
        heads.append(head_of(gaussians, outputs[~held], labels[~held]))
        on_part(part + 1, n_parts)
    return CrossFitted(scores, distance, parts, tuple(heads), can_judge, by_slide)


def _parts(slides: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the part of each cell; the largest slides are dealt out first, so that parts have as many cells."""
    known, counts = np.unique(slides, return_counts=True)
    n_parts = min(MAX_PARTS, len(known))
    load, part_of = np.zeros(n_parts), {}
    for index in np.argsort(-counts, kind="stable"):
        part = int(load.argmin())
        part_of[known[index]] = part
        load[part] += counts[index]
    return np.array([part_of[slide] for slide in slides], np.int64)
