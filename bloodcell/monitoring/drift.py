"""How far a model's nights have drifted from the images it was validated on: distances with 95 % intervals.

Every distance is 0 on average where nothing has drifted: the part that chance adds is subtracted. Intervals come from
resampling slide buckets, because cells of one slide resemble each other; few slides give wide intervals.

The class mix of a laboratory is never that of the training images. Confidence, novelty and embedding are therefore
compared within classes, and the classes are weighted as they occur in the nights: a night with more basophils is drift
of the class mix only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.monitoring.resampling import drawn_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SLIDE_BUCKETS: Final = 8
"""Slide buckets that an interval needs: no draw can be more extreme than the most extreme of them.

Measured on 500 simulated nights of patients who differ as real patients do: false alarms about the class mix in 2 % of
the nights of five slides, 0.2 % of those of six, none of those of eight.
"""

MIN_CLASS_CELLS: Final = 8
"""Cells of a class that the reference and the nights each need for the class to be compared."""

N_REPLICATES: Final = 500
"""Draws of the slide buckets, from which an interval is taken."""

SEED: Final = 20_120_313
_PERCENTILES: Final = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Drift:
    """A distance with its 95 % interval; all three may be below 0 if the nights are nearer than by chance."""

    measured: float
    lower: float
    upper: float


def mix_drift(expected: NDArray[np.integer], counts: NDArray[np.integer]) -> Drift:
    """Returns the population stability index of a class mix.

    Args:
        expected: int (k,), cells of each class in the reference.
        counts: int (n_slide_buckets, k), cells of each class in each slide bucket.
    """
    return _psi_drift(expected / expected.sum(), float(expected.sum()), counts)


def class_weights(top: NDArray[np.integer], mix: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns float64 (n,), weights that give the reference's cells the class mix of the nights.

    Args:
        top: int (n,), class of each cell of the reference, index into `CELL_CLASSES`.
        mix: int (8,), cells of each class in the nights; classes with fewer than `MIN_CLASS_CELLS` here or in the
            reference get the weight 0.

    Returns:
        The weights, which add up to 1; all are 0 if no class can be compared.
    """
    n_cells = np.bincount(top, minlength=len(CELL_CLASSES))
    is_compared = (n_cells >= MIN_CLASS_CELLS) & (mix >= MIN_CLASS_CELLS)
    shares = np.where(is_compared, mix, 0) / max(int(mix[is_compared].sum()), 1)
    return np.asarray((shares / np.maximum(n_cells, 1))[top])


def decile_edges(values: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the inner edges of ten bins that each have a tenth of the weight; fewer edges where values repeat."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    # sums of floats are not exact: a value that exceeds a tenth by rounding only is still below the edge
    at = np.searchsorted(reached, (np.arange(1, 10) / 10 + 1e-9) * reached[-1])
    return np.unique(values[order][np.minimum(at, len(order) - 1)].astype(np.float64))


def value_drift(
    values: NDArray[np.floating],
    weights: NDArray[np.floating],
    edges: NDArray[np.floating],
    counts: NDArray[np.integer],
) -> Drift:
    """Returns the population stability index of a value such as confidence.

    Args:
        values: (n,), of the reference's cells.
        weights: (n,), of the same cells, from `class_weights`; some are above 0.
        edges: (k - 1,), from `decile_edges`; a value on an edge belongs to the bin above.
        counts: int (n_slide_buckets, k), cells of each slide bucket in each bin, of classes with a weight above 0.
    """
    bins = np.searchsorted(edges, values.astype(np.float64), side="right")
    shares = np.bincount(bins, weights, minlength=len(edges) + 1)
    # the effective number of cells under unequal weights. Source: Kish, Survey Sampling, Wiley 1965, section 11.7
    return _psi_drift(shares / shares.sum(), float(weights.sum() ** 2 / (weights**2).sum()), counts)


def _psi_drift(shares: NDArray[np.floating], n_expected: float, counts: NDArray[np.integer]) -> Drift:
    replicates = drawn_sums(counts.astype(np.float64), n_replicates=N_REPLICATES, seed=SEED)
    measured = _psi(shares, n_expected, counts.sum(axis=0, dtype=np.float64)[None])
    return drift_interval(float(measured[0]), _psi(shares, n_expected, replicates))


def _psi(shares: NDArray[np.floating], n_expected: float, counts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the index of each row of counts against the shares, minus its mean under chance alone.

    Source: Siddiqi, Credit Risk Scorecards, Wiley 2006 (the index; below 0.1 no change, above 0.25 a large one);
    Yurdakul, Statistical properties of population stability index, Western Michigan University 2018 (without drift it
    is chi-squared with k - 1 degrees of freedom times 1/n + 1/m, so its mean is (k - 1)(1/n + 1/m)).
    """
    n_bins = len(shares)
    n_cells = counts.sum(axis=1, keepdims=True)
    # half a cell is added to each bin, so that an empty bin is not infinitely far away
    actual = (counts + 0.5) / (n_cells + 0.5 * n_bins)
    expected = (shares * n_expected + 0.5) / (n_expected + 0.5 * n_bins)
    index = ((actual - expected) * np.log(actual / expected)).sum(axis=1)
    return np.asarray(index - (n_bins - 1) * (1 / n_expected + 1 / n_cells[:, 0]))


def drift_interval(measured: float, replicates: NDArray[np.float64]) -> Drift:
    """Returns a distance with the percentiles of its replicates as interval, widened to include the distance."""
    lower, upper = np.percentile(replicates, _PERCENTILES).tolist()
    return Drift(measured, min(lower, measured), max(upper, measured))
