"""What a site's head and its parent make of a cell together: probabilities of the eight classes, and a distance.

The head knows only the classes that have labels at the site. Of the others the parent keeps its opinion: if it gives
them more than it gives them for nearly all labelled cells of the site, the cell may be one of these. It is then without
a call, because nobody has seen how the parent does on these classes here. Without that, 12 % of a laboratory's cells
were called wrongly where one class had no labels.

The parent also decides whether an image shows a cell. At another camera it doubts that of many, and all confidences
would be too low for a call, so its odds of no cell are divided until most labelled cells have few. Both were measured
(benchmarks/accuracy/ABLATIONS.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.cells.calls import decide
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.training.calibration import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.site.class_gaussians import ClassGaussians

SUSPECTED_SHARE: Final = 0.05
"""Share of the labelled cells for which the parent gives the classes without labels more than the limit."""

MOST_SUSPECTED: Final = 0.5
"""Largest limit: a cell that the parent more likely than not takes for a class without labels may always be of it."""

MOST_NONE: Final = 0.05
"""Largest probability of no cell that most labelled cells have."""

USUAL_CELLS: Final = 0.8
"""Share of the labelled cells that have at most that. The others may be poor images, and stay doubtful."""

MOST_DIVIDED: Final = 19.0
"""Largest divisor: an image that the parent takes for none with 95 % is not more probably a cell than none."""

FAR: Final = 1000.0
"""Added to the distance of a cell that may be of a class without labels: no cell is as far from a class."""


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


@dataclass(frozen=True, slots=True)
class Judged:
    """What head and parent make of n cells.

    Attributes:
        probabilities: float64 (n, 8).
        of_codes: float64 (n, k), of the codes out of scope that the head knows.
        distance: float64 (n,).
    """

    probabilities: NDArray[np.float64]
    of_codes: NDArray[np.float64]
    distance: NDArray[np.float64]

    @classmethod
    def nothing(cls, n_cells: int, n_codes: int) -> Judged:
        """Returns what is made of cells before any head has judged them: zeros, to be filled by `put`."""
        return cls(np.zeros((n_cells, len(CELL_CLASSES))), np.zeros((n_cells, n_codes)), np.zeros(n_cells))

    def __getitem__(self, rows: Any) -> Judged:
        """Returns what is made of some of the cells."""
        return Judged(self.probabilities[rows], self.of_codes[rows], self.distance[rows])

    def put(self, rows: NDArray[np.bool_], judged: Judged) -> None:
        """Fills in what is made of the cells in `rows`."""
        for name in ("probabilities", "of_codes", "distance"):
            getattr(self, name)[rows] = getattr(judged, name)

    def calls(
        self,
        confidence_threshold: float | NDArray[np.float64],
        novelty_threshold: float | NDArray[np.float64],
        codes: Sequence[str],
    ) -> Calls:
        """Returns the calls of these cells.

        Args:
            confidence_threshold: Smallest confidence of a call; of all, or float64 (n,) of each.
            novelty_threshold: Largest distance of a call; of all, or float64 (n,) of each.
            codes: The k codes.
        """
        return decide(
            self.probabilities,
            self.distance,
            confidence_threshold=confidence_threshold,
            novelty_threshold=novelty_threshold,
            of_codes=self.of_codes,
            codes=codes,
        )


@dataclass(frozen=True, slots=True)
class SiteHead:
    """A fitted head, and what it leaves to its parent.

    Attributes:
        gaussians: The classes with labels at the site.
        unknown_limit: What the parent may give the classes without labels together, before a cell may be of one.
        none_divisor: At least 1; the parent's odds that an image shows no cell at all are divided by it.
    """

    gaussians: ClassGaussians
    unknown_limit: float
    none_divisor: float = 1.0

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Bool (8,), the cell classes without a label at the site."""
        return ~self.gaussians.known[: len(CELL_CLASSES)]

    def judge(
        self, scores: NDArray[np.floating], distance: NDArray[np.floating], outputs: SiteOutputs, temperature: float
    ) -> Judged:
        """Returns what head and parent make of cells.

        Args:
            scores: float (n, n_classes), of `gaussians`.
            distance: float (n,), of the same.
            outputs: The parent's, for the same cells.
            temperature: Divisor of the scores.
        """
        parent = settled(outputs.probabilities, self.none_divisor)
        of_unknown = parent * self.unknown
        suspected = (of_unknown.sum(axis=1) > self.unknown_limit)[:, None]
        of_unknown = of_unknown * suspected
        left = parent.sum(axis=1, keepdims=True) - of_unknown.sum(axis=1, keepdims=True)
        own, n_classes = softmax(scores, temperature) * left, len(CELL_CLASSES)
        return Judged(own[:, :n_classes] + of_unknown, own[:, n_classes:], distance + FAR * suspected[:, 0])


def head_of(gaussians: ClassGaussians, labelled: SiteOutputs, labels: NDArray[np.integer]) -> SiteHead:
    """Returns the head with what it leaves to its parent, chosen on labelled cells of the eight classes.

    Args:
        gaussians: The classes with labels.
        labelled: The parent's outputs for the labelled cells.
        labels: int (n,), their classes; cells of codes, from 8 on, do not count: a parent may take blasts for anything.
    """
    inside = labelled.probabilities[labels < len(CELL_CLASSES)]
    if not len(inside):
        return SiteHead(gaussians, MOST_SUSPECTED)
    divisor = _none_divisor(inside)
    of_unknown = settled(inside, divisor) @ ~gaussians.known[: len(CELL_CLASSES)]
    return SiteHead(gaussians, min(float(np.quantile(of_unknown, 1 - SUSPECTED_SHARE)), MOST_SUSPECTED), divisor)


def settled(probabilities: NDArray[np.floating], none_divisor: float) -> NDArray[np.float64]:
    """Returns a parent's probabilities (n, 8) after its odds that an image shows no cell are divided."""
    parent = probabilities.astype(np.float64)
    of_any = parent.sum(axis=1, keepdims=True)
    return np.asarray(parent / (of_any + (1 - of_any) / none_divisor))


def _none_divisor(inside: NDArray[np.floating]) -> float:
    of_any = np.clip(inside.sum(axis=1, dtype=np.float64), 1e-9, 1.0)
    odds = float(np.quantile((1 - of_any) / of_any, USUAL_CELLS))
    return float(np.clip(odds * (1 - MOST_NONE) / MOST_NONE, 1.0, MOST_DIVIDED))
