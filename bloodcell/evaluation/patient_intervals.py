"""Intervals over patients: they allow for patients other than those in the hold-out, and hold for few of them.

Cells of one patient resemble each other and are not independent draws, so intervals that count cells are too narrow.
Here each patient is left out in turn (the jackknife), and how much the figure moves says how uncertain it is. A figure
of two patients has one degree of freedom: intervals use Student's t, and are wide where patients are few. Where a few
patients have most of the cells, degrees of freedom come from the effective number of patients.

Source: Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9 (1981) 586-596 (it is never too
small on average); Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts
estimated from survey data, Survey Methodology 24 (1998) 193-201 (shares); Tango, Equivalence test and confidence
interval for the difference in proportions for the paired-sample design, Statistics in Medicine 17 (1998) 891-908.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import ndtri, stdtrit

from bloodcell.cells.intervals import CONFIDENCE, exact_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.cells.metrics import Share

_UPPER: Final = (1 + CONFIDENCE) / 2

LIKELY: Final = 0.9
"""A change is likely if a one-sided test at this level says that there is one."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval over patients, in the unit of the figure."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Change(Interval):
    """A difference of two models, with its 95 % interval over patients.

    Attributes:
        likely_from: Lower end of a one-sided 90 % interval: a change below 0 is likely if `likely_to` is below 0, one
            above 0 if `likely_from` is above 0.
        likely_to: Upper end of a one-sided 90 % interval.
    """

    likely_from: float
    likely_to: float


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
    return counts.reshape(n_patients, n_columns).astype(np.float64)


def share_interval(by_patient: Share) -> Interval | None:
    """Returns a share of all cells with its interval, None without cells; one patient says nothing about others.

    The interval is the exact binomial one for the number of independent cells that would be as uncertain.

    Args:
        by_patient: (n_patients,), the share of each patient's cells.
    """
    counted = by_patient.total > 0
    n, total = by_patient.n[counted], by_patient.total[counted]
    n_patients, n_cells = len(n), float(total.sum())
    if not n_cells:
        return None
    share = float(n.sum()) / n_cells
    if n_patients < 2:
        return Interval(share, 0.0, 1.0)
    variance = jackknife_variance(_without_each(n) / _without_each(total))
    n_effective = min(n_cells, share * (1 - share) / variance) if variance > 0 else n_cells
    if n_cells > n_patients:  # with one cell of each patient, cells are independent
        n_effective *= (_quantile(n_cells, _UPPER) / _quantile(effective_patients(total), _UPPER)) ** 2
    lower, upper = exact_interval(np.array(share * n_effective), np.array(n_effective))
    return Interval(share, float(lower), float(upper))


def difference_interval(a: Share, b: Share) -> Change | None:
    """Returns share a minus share b with its interval, None where either has no cells.

    Args:
        a: (n_patients,), the share of each patient's cells.
        b: The same patients' other share.
    """
    counted = (a.total > 0) | (b.total > 0)
    a_n, a_total, b_n, b_total = (part[counted] for part in (a.n, a.total, b.n, b.total))
    if not a_total.sum() or not b_total.sum():
        return None
    # over one denominator, because whole numbers are exact: 396 and 400 of 400 differ by exactly 0.01
    whole = float((a_n.sum() * b_total.sum() - b_n.sum() * a_total.sum()) / (a_total.sum() * b_total.sum()))
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = _without_each(a_n) / _without_each(a_total) - _without_each(b_n) / _without_each(b_total)
    return figure_interval(whole, left_out, n_effective=effective_patients(a_total + b_total), lowest=-1.0)


def effective_patients(n_cells: NDArray[np.float64]) -> float:
    """Returns the number of patients with equally many cells that would be as uncertain.

    Source: Kish, Survey Sampling, Wiley 1965, section 11.7.

    Args:
        n_cells: float64 (n_patients,), cells of each patient, some above 0.
    """
    return float(n_cells.sum() ** 2 / (n_cells**2).sum())


def figure_interval(whole: float, left_out: NDArray[np.float64], *, n_effective: float, lowest: float = 0.0) -> Change:
    """Returns any figure with its interval.

    Args:
        whole: The figure of all patients.
        left_out: float64 (n_patients,), the figure without each patient in turn; nan where it does not exist, and the
            interval is then the whole range.
        n_effective: The effective number of these patients.
        lowest: Smallest possible value: 0 for a share, -1 for a difference; the largest is 1.
    """
    if len(left_out) < 2 or np.isnan(left_out).any():
        return Change(whole, lowest, 1.0, lowest, 1.0)
    error = float(np.sqrt(jackknife_variance(left_out)))
    widths = [_quantile(n_effective, level) * error for level in (_UPPER, LIKELY)]
    (lower, upper), (likely_from, likely_to) = (
        (max(whole - width, lowest), min(whole + width, 1.0)) for width in widths
    )
    return Change(whole, lower, upper, likely_from, likely_to)


def paired_interval(n_only_a: int, n_only_b: int, n_cells: int) -> tuple[float, float]:
    """Returns the ends of the 95 % score interval of a's share minus b's, if cells were independent.

    It has a width even where the two models agree on every cell: ten cells cannot show that two models are equal.

    Args:
        n_only_a: Cells that only a has right.
        n_only_b: Cells that only b has right.
        n_cells: All cells, at least one.
    """
    return -_score_bound(n_only_b, n_only_a, n_cells), _score_bound(n_only_a, n_only_b, n_cells)


def cells_to_show_equality(margin: float) -> int:
    """Returns the cells on which two models must agree for `paired_interval` to end within `margin` of 0.

    Without a discordant cell, it ends at z²/(n + z²).

    Args:
        margin: In 0..1; with 0 no number of cells is enough, and 0 is returned.
    """
    z = float(ndtri(_UPPER))
    return math.ceil(z**2 * (1 - margin) / margin) if margin else 0


def _score_bound(n_only_a: int, n_only_b: int, n_cells: int) -> float:
    """Returns the largest difference a - b that the score test does not reject, by halving."""
    z = float(ndtri(_UPPER))
    inside, outside = (n_only_a - n_only_b) / n_cells, 1.0
    for _ in range(50):
        middle = (inside + outside) / 2
        slope = 2 * n_cells - n_only_a + n_only_b
        linear = slope * middle - n_only_a - n_only_b
        constant = -n_only_b * middle * (1 - middle)
        only_b = (np.sqrt(max(linear**2 - 8 * n_cells * constant, 0.0)) - linear) / (4 * n_cells)
        variance = n_cells * (2 * only_b + middle * (1 - middle))
        if n_cells * middle - (n_only_a - n_only_b) <= z * np.sqrt(max(variance, 0.0)):
            inside = middle
        else:
            outside = middle
    return inside


def _quantile(n: float, level: float) -> float:
    """Returns Student's t for n patients, or cells; fewer than two in effect count as a tenth more than one."""
    return float(stdtrit(max(n - 1, 0.1), level))


def _without_each(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(counts.sum() - counts)


def jackknife_variance(left_out: NDArray[np.float64]) -> float:
    """Returns the variance of a figure, from the figure without each patient in turn."""
    n = len(left_out)
    return float((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
