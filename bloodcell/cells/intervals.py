"""Proportions of counted cells with exact 95 % confidence intervals.

Source: Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial,
Biometrika 26 (1934) 404-413. For a differential these are the intervals of Rümke's table: Rümke, The statistically
expected variability in differential leukocyte counting, in: Koepke (ed.), Differential Leukocyte Counting, College of
American Pathologists, 1978.

The intervals allow for the chance that decides which cells of the blood are counted. They do not allow for wrong calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import betaincinv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Proportion:
    """`n` of `total`, with an exact 95 % confidence interval.

    Attributes:
        n: Cells counted.
        total: Cells that they are a part of.
        value: n / total in 0..1; None if the total is 0.
        lower: Lower end of the interval in 0..1; None if the total is 0.
        upper: Upper end of the interval in 0..1; None if the total is 0.
    """

    n: int
    total: int
    value: float | None
    lower: float | None
    upper: float | None

    @property
    def percentage(self) -> float | None:
        """The value in percent."""
        return None if self.value is None else 100 * self.value

    @property
    def percentage_interval(self) -> tuple[float, float] | None:
        """Lower and upper end of the interval in percent."""
        return None if self.lower is None or self.upper is None else (100 * self.lower, 100 * self.upper)


def exact_interval(
    counts: NDArray[np.floating] | NDArray[np.integer], totals: NDArray[np.floating] | NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the ends of the Clopper-Pearson intervals of counts / totals, in 0..1, nan where a total is 0.

    Args:
        counts: Any shape, 0 <= counts <= totals; whole numbers, or effective numbers of cells.
        totals: A shape that broadcasts with `counts`.
    """
    counts, totals = np.broadcast_arrays(counts, totals)
    if np.any(counts < 0) or np.any(counts > totals):
        raise ValueError("Expected 0 <= counts <= totals.")
    tail = (1 - CONFIDENCE) / 2
    # the inverse is undefined if no cells or all cells are counted, where the interval ends at 0 or 1
    with np.errstate(invalid="ignore"):
        lower = np.where(counts == 0, 0.0, betaincinv(np.where(counts == 0, 1, counts), totals - counts + 1, tail))
        others = np.where(counts == totals, 1, totals - counts)
        upper = np.where(counts == totals, 1.0, betaincinv(counts + 1, others, 1 - tail))
    nothing = totals == 0
    return np.where(nothing, np.nan, lower), np.where(nothing, np.nan, upper)


def proportions(counts: Sequence[int], totals: Sequence[int]) -> tuple[Proportion, ...]:
    """Returns each count's proportion of its total, all computed at once, because a night has thousands of them."""
    lower, upper = exact_interval(np.asarray(counts, np.int64), np.asarray(totals, np.int64))
    return tuple(
        Proportion(n, total, n / total, low, high) if total else Proportion(n, total, None, None, None)
        for n, total, low, high in zip(counts, totals, lower.tolist(), upper.tolist(), strict=True)
    )


def proportion(n: int, total: int) -> Proportion:
    """Returns `n` of `total` with its interval."""
    return proportions((n,), (total,))[0]
