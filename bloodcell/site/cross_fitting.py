"""What a site's head does on slides that it was not fitted on: the only honest figure before the first night.

The labelled slides are divided into parts. Each part is predicted by a head that was fitted on the others, so that
every labelled cell is predicted once, by a head that knows nothing of its slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.site.class_gaussians import Labelled, fit_class_gaussians

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
        by_slide: Whether whole slides were left out; False if there is only one, and then the figures are too good.
    """

    scores: NDArray[np.float64]
    distance: NDArray[np.float64]
    by_slide: bool


def cross_fit(
    learnt: Labelled,
    site: Labelled,
    slides: NDArray[np.integer],
    unlabelled: NDArray[np.floating],
    n_classes: int,
    on_part: Callable[[int, int], None],
) -> CrossFitted:
    """Returns the predictions of every labelled cell.

    Args:
        learnt: Cells that the model was trained on.
        site: Labelled cells of the site.
        slides: int (n,), the slide of each labelled cell.
        unlabelled: Further cells of the site.
        n_classes: Classes of the head.
        on_part: Called with the number of parts done, and the total.
    """
    by_slide = len(np.unique(slides)) > 1
    parts = _parts(slides if by_slide else np.arange(len(slides)))
    n_parts = int(parts.max()) + 1
    scores, distance = np.zeros((len(slides), n_classes)), np.zeros(len(slides))
    for part in range(n_parts):
        held = parts == part
        fitted = Labelled(site.features[~held], site.labels[~held])
        head = fit_class_gaussians(learnt, fitted, unlabelled, n_classes)
        scores[held], distance[held] = head.scores(site.features[held]), head.distance(site.features[held])
        on_part(part + 1, n_parts)
    return CrossFitted(scores, distance, by_slide)


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
