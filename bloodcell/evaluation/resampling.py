"""The bootstrap over patients: intervals that allow for patients other than those in the hold-out.

Cells of one patient resemble each other and are not independent draws, so exact binomial intervals over all cells are
too narrow. Here whole patients are drawn with replacement, and each draw's figures are computed from the sum of the
drawn patients' confusion matrices, with one matrix product for all draws: cost and memory depend on the number of
patients, not on the number of cells. All models are counted with the same draws, so a difference of two models is
paired.

Percentile intervals over few patients are still somewhat narrow (with five patients no draw can be more extreme than
the most extreme of the five). That is why a gate requires a minimum number of patients.

Source: Field and Welsh, Bootstrapping clustered data, Journal of the Royal Statistical Society B 69 (2007) 369-390
(the cluster bootstrap); Efron and Tibshirani, An introduction to the bootstrap, Chapman & Hall 1993, chapter 13
(percentile interval; at least 1,000 draws for an interval).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.intervals import CONFIDENCE, exact_interval
from bloodcell.cells.metrics import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray


N_REPLICATES: Final = 2_000
"""Draws of the patients. Twice what the source asks for an interval: each tail of 2.5 % then rests on 50 draws."""

SEED: Final = 20_190_105
"""Fixed, so that the same calls always give the same intervals, to the last digit."""

_CHUNK_DRAWS: Final = 2_000_000
"""Patients drawn at once, over all draws of a chunk: 16 MB of weights, whatever the number of patients."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, or a difference of two, with its 95 % confidence interval; never nan.

    Attributes:
        value: The figure itself, on the patients of the hold-out.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
    """

    value: float
    lower: float
    upper: float


def counts_by_patient(
    row: NDArray[np.integer], n_patients: int, columns: NDArray[np.integer], n_columns: int
) -> NDArray[np.float64]:
    """Returns float64 (n_patients, n_columns): how many of a patient's cells fall into each column.

    Args:
        row: integer (n,), each cell's patient, in 0..n_patients - 1.
        n_patients: Rows of the result.
        columns: integer (n,), in 0..n_columns - 1.
        n_columns: Columns of the result.
    """
    counts = np.bincount(row * n_columns + columns, minlength=n_patients * n_columns)
    # whole numbers stay exact in float64, and BLAS, which computes the product in `drawn_sums`, has no integers
    return counts.reshape(n_patients, n_columns).astype(np.float64)


def drawn_sums(counts: NDArray[np.float64], *, n_replicates: int, seed: int) -> NDArray[np.float64]:
    """Returns float64 (n_replicates, n_columns): sums of `counts` over patients drawn with replacement.

    Args:
        counts: float64 (n_patients, n_columns), at least one patient.
        n_replicates: Number of draws; each draws as many patients as there are.
        seed: The same seed gives the same draws, whatever the columns.
    """
    n_patients = len(counts)
    random = np.random.default_rng(seed)
    sums = np.empty((n_replicates, counts.shape[1]))
    step = max(_CHUNK_DRAWS // n_patients, 1)
    for start in range(0, n_replicates, step):
        n_draws = min(step, n_replicates - start)
        drawn = random.integers(0, n_patients, (n_draws, n_patients))
        drawn += n_patients * np.arange(n_draws)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=n_draws * n_patients).reshape(n_draws, n_patients)
        sums[start : start + n_draws] = weights @ counts
    return sums


def interval(values: NDArray[np.float64], *, n_patients: int, lowest: float = 0.0) -> Interval:
    """Returns a figure with its percentile interval.

    With one patient every draw is the same and says nothing about other patients: the interval is then the whole range.

    Args:
        values: float64 (1 + n_replicates,), the figure itself, then that of each draw; draws in which it does not
            exist (nan) are left out.
        n_patients: Patients with cells that the figure counts.
        lowest: Smallest possible value: 0 for a share, -1 for a difference of shares.
    """
    draws = values[1:][~np.isnan(values[1:])]
    if n_patients < 2 or not len(draws):
        return Interval(float(values[0]), lowest, 1.0)
    tail = 100 * (1 - CONFIDENCE) / 2
    lower, upper = np.percentile(draws, (tail, 100 - tail)).tolist()
    return Interval(float(values[0]), lower, upper)


def share_interval(share: Share, by_patient: Share) -> Interval | None:
    """Returns a share with its percentile interval, None where its total is 0.

    Where none or all of the cells count, the same is true in every draw and the percentiles have no width. Three of
    three do not prove perfection, so the interval then reaches as far as the exact binomial interval of
    `bloodcell.cells.intervals`.

    Args:
        share: (1 + n_replicates,), the share itself, then that of each draw.
        by_patient: (n_patients,), the share of each patient's cells.
    """
    n, total = int(share.n[0]), int(share.total[0])
    if total == 0:
        return None
    found = interval(share.value, n_patients=by_patient.n_existing)
    if 0 < n < total:
        return found
    lower, upper = exact_interval(np.array(n), np.array(total))
    return Interval(found.value, min(found.lower, float(lower)), max(found.upper, float(upper)))


def difference_interval(a: Share, b: Share, a_by_patient: Share, b_by_patient: Share) -> Interval | None:
    """Returns a minus b with its percentile interval, None where either total is 0.

    Args:
        a: (1 + n_replicates,), the share itself, then that of each draw.
        b: As `a`, of the same draws.
        a_by_patient: (n_patients,), the share of each patient's cells.
        b_by_patient: As `a_by_patient`.
    """
    if not a.total[0] or not b.total[0]:
        return None
    n_patients = min(a_by_patient.n_existing, b_by_patient.n_existing)
    # over one denominator, because whole numbers are exact: 396 and 400 of 400 differ by exactly 0.01
    difference = Share(a.n * b.total - b.n * a.total, a.total * b.total)
    return interval(difference.value, n_patients=n_patients, lowest=-1.0)
