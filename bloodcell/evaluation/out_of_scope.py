"""Judges whether a model leaves cells outside the eight classes (blasts, smudges, artefacts) unclassified.

No call of such a cell can be right. It should be left unclassified, so that a person looks at it, and its novelty
should be clearly higher than that of cells from the eight classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.intervals import Proportion, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_BINS: Final = 40
"""Bins of the novelty histogram: fine enough to show two peaks, coarse enough for a few hundred cells."""

_HOLDOUT_QUANTILE: Final = 0.995
_OUT_OF_SCOPE_QUANTILE: Final = 0.9
"""Histograms end at these quantiles, and cells beyond them are in the last bin: one cell of extreme novelty must not
flatten the histogram of all others. Cells out of scope are few, so a single extreme one may be a tenth of them."""


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """How a model treats labelled cells that are out of scope.

    Attributes:
        unclassified: Of these cells, those left unclassified, with an exact 95 % interval.
        auroc: Probability that such a cell has a higher novelty than a hold-out cell, ties counted half; None without
            cells.
        novelty_threshold: The bundle's threshold; None where it was not given.
        edges: Edges of the bins of the two histograms, one more than there are bins.
        holdout: Hold-out cells in each bin; cells whose novelty is not finite are in the last.
        out_of_scope: Cells out of scope in each bin.
    """

    unclassified: Proportion
    auroc: float | None
    novelty_threshold: float | None
    edges: tuple[float, ...]
    holdout: tuple[int, ...]
    out_of_scope: tuple[int, ...]


def judge_out_of_scope(
    novelty: NDArray[np.floating],
    out_of_scope_novelty: NDArray[np.floating],
    out_of_scope_unclassified: NDArray[np.bool_],
    *,
    novelty_threshold: float | None = None,
) -> OutOfScope:
    """Returns how a model treats the m labelled cells that are out of scope.

    Args:
        novelty: float (n,), of the hold-out cells, n at least 1.
        out_of_scope_novelty: float (m,), m may be 0.
        out_of_scope_unclassified: bool (m,), cells without a call.
        novelty_threshold: The bundle's threshold, for display.
    """
    in_scope, out_of_scope = (
        np.nan_to_num(part.astype(np.float64), nan=np.inf) for part in (novelty, out_of_scope_novelty)
    )
    edges = _edges(in_scope, out_of_scope, novelty_threshold)
    return OutOfScope(
        unclassified=proportion(int(out_of_scope_unclassified.sum()), len(out_of_scope_unclassified)),
        auroc=_auroc(in_scope, out_of_scope),
        novelty_threshold=novelty_threshold,
        edges=tuple(edges.tolist()),
        holdout=_histogram(in_scope, edges),
        out_of_scope=_histogram(out_of_scope, edges),
    )


def _auroc(in_scope: NDArray[np.float64], out_of_scope: NDArray[np.float64]) -> float | None:
    """Returns the area under the ROC curve, from ranks.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982) 29-36.
    """
    if not len(in_scope) or not len(out_of_scope):
        return None
    ordered = np.sort(in_scope)
    below, not_above = (np.searchsorted(ordered, out_of_scope, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(in_scope)))


def _edges(
    in_scope: NDArray[np.float64], out_of_scope: NDArray[np.float64], threshold: float | None
) -> NDArray[np.float64]:
    ends = [0.0]
    for novelty, quantile in ((in_scope, _HOLDOUT_QUANTILE), (out_of_scope, _OUT_OF_SCOPE_QUANTILE)):
        finite = novelty[np.isfinite(novelty)]
        if len(finite):
            ends += [float(finite.min()), float(np.quantile(finite, quantile, method="lower"))]
    lowest, highest = min(ends), max(ends)
    if threshold is not None and np.isfinite(threshold):
        lowest, highest = min(lowest, threshold), max(highest, threshold)
    # a minimum width in case all novelties are equal; it is relative, so that rounding does not lose it
    return np.linspace(lowest, max(highest, lowest + 1e-6 * max(abs(lowest), 1.0)), N_BINS + 1)


def _histogram(novelty: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[int, ...]:
    counts, _ = np.histogram(np.clip(novelty, edges[0], edges[-1]), edges)
    return tuple(counts.tolist())
