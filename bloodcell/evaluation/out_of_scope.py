"""Cells that belong to none of the eight groups (blasts, smudges, artefacts): does the model hold back?

No call of such a cell can be right. What counts is that it ends as unclassified and goes to a person, and that its
novelty stands out from that of the cells the model knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.intervals import Proportion, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_BINS: Final = 40
"""Bins of the novelty histogram: fine enough to see two humps, coarse enough for a few hundred cells."""

_INSIDE_QUANTILE: Final = 0.995
_OUTSIDE_QUANTILE: Final = 0.9
"""Histograms reach this far of either kind, the rest is in the last bin: one cell of enormous novelty must not flatten
all others. Cells out of scope are few, so the strangest one of them is soon a tenth."""


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """How a model treats labelled cells outside of the eight groups.

    Attributes:
        unclassified: Of these cells, those left unclassified, with exact 95 % limits.
        auroc: Chance that such a cell has a higher novelty than a hold-out cell, ties counted half; None without cells.
        novelty_threshold: Largest novelty of a call, None where it was not given.
        edges: Edges of the bins of the two histograms, one more than bins.
        holdout: Hold-out cells in each bin; novelty that is not finite is in the last.
        outside: Cells out of scope in each bin.
    """

    unclassified: Proportion
    auroc: float | None
    novelty_threshold: float | None
    edges: tuple[float, ...]
    holdout: tuple[int, ...]
    outside: tuple[int, ...]


def judge_out_of_scope(
    novelty: NDArray[np.floating],
    outside_novelty: NDArray[np.floating],
    outside_unclassified: NDArray[np.bool_],
    *,
    novelty_threshold: float | None = None,
) -> OutOfScope:
    """Returns how a model treats the m labelled cells that are out of scope.

    Args:
        novelty: float (n,), of the hold-out cells, n at least 1.
        outside_novelty: float (m,), m may be 0.
        outside_unclassified: bool (m,).
        novelty_threshold: Largest novelty of a call, to be shown.
    """
    inside, outside = (np.nan_to_num(part.astype(np.float64), nan=np.inf) for part in (novelty, outside_novelty))
    edges = _edges(inside, outside, novelty_threshold)
    return OutOfScope(
        unclassified=proportion(int(outside_unclassified.sum()), len(outside_unclassified)),
        auroc=_auroc(inside, outside),
        novelty_threshold=novelty_threshold,
        edges=tuple(edges.tolist()),
        holdout=_histogram(inside, edges),
        outside=_histogram(outside, edges),
    )


def _auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve, from ranks.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982) 29-36.
    """
    if not len(inside) or not len(outside):
        return None
    ordered = np.sort(inside)
    below, not_above = (np.searchsorted(ordered, outside, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(inside)))


def _edges(inside: NDArray[np.float64], outside: NDArray[np.float64], threshold: float | None) -> NDArray[np.float64]:
    ends = [0.0]
    for novelty, quantile in ((inside, _INSIDE_QUANTILE), (outside, _OUTSIDE_QUANTILE)):
        finite = novelty[np.isfinite(novelty)]
        if len(finite):
            ends += [float(finite.min()), float(np.quantile(finite, quantile, method="lower"))]
    lowest, highest = min(ends), max(ends)
    if threshold is not None and np.isfinite(threshold):
        lowest, highest = min(lowest, threshold), max(highest, threshold)
    # a width of its own where all novelty is the same, relative so that it is not lost to rounding
    return np.linspace(lowest, max(highest, lowest + 1e-6 * max(abs(lowest), 1.0)), N_BINS + 1)


def _histogram(novelty: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[int, ...]:
    counts, _ = np.histogram(np.clip(novelty, edges[0], edges[-1]), edges)
    return tuple(counts.tolist())
