"""The line by which two methods that both err are compared, without assuming how they err.

Source: Passing and Bablok, A new biometrical procedure for testing the equality of measurements from two different
analytical methods, J. Clin. Chem. Clin. Biochem. 21 (1983) 709-720, sections 2.1 (slope), 2.2 (its interval) and 2.3
(intercept).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_POINTS: Final = 10
"""Points without which no line is fitted. The authors ask for 40 before equality is concluded from it."""

_Z: Final = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True)
class Line:
    """y = intercept + slope * x, with 95 % intervals; a method that agrees has slope 1 and intercept 0 within them.

    Attributes:
        slope: Slope.
        slope_lower: Lower end of its interval.
        slope_upper: Upper end of its interval.
        intercept: Intercept, in the unit of y.
        intercept_lower: Lower end of its interval.
        intercept_upper: Upper end of its interval.
        n_points: Points that it rests on.
    """

    slope: float
    slope_lower: float
    slope_upper: float
    intercept: float
    intercept_lower: float
    intercept_upper: float
    n_points: int

    @property
    def agrees(self) -> bool:
        """Whether slope 1 and intercept 0 are within the intervals."""
        return self.slope_lower <= 1 <= self.slope_upper and self.intercept_lower <= 0 <= self.intercept_upper


def passing_bablok(x: NDArray[np.floating], y: NDArray[np.floating]) -> Line | None:
    """Returns the line of y on x; None with fewer than `MIN_POINTS`, or where x or y hardly varies.

    Args:
        x: float (n,), by the reference.
        y: float (n,), by the method that is compared with it.
    """
    n_points = len(x)
    if n_points < MIN_POINTS:
        return None
    rows, columns = np.triu_indices(n_points, 1)
    across, up = x[columns] - x[rows], y[columns] - y[rows]
    differs = (across != 0) | (up != 0)
    with np.errstate(divide="ignore"):
        slopes = up[differs] / across[differs]
    slopes = np.sort(slopes[slopes != -1])
    n_slopes, n_steep = len(slopes), int((slopes < -1).sum())
    width = _Z * np.sqrt(n_points * (n_points - 1) * (2 * n_points + 5) / 18)
    first = round((n_slopes - width) / 2)
    last = n_slopes - first + 1
    if first < 1 or last + n_steep > n_slopes or n_slopes < n_points:
        return None
    middle = (n_slopes - 1) / 2 + n_steep
    slope = float(np.mean(slopes[[int(np.floor(middle)), int(np.ceil(middle))]])) if middle < n_slopes else np.inf
    lower, upper = float(slopes[first + n_steep - 1]), float(slopes[last + n_steep - 1])
    if not np.isfinite([slope, lower, upper]).all():
        return None
    return Line(
        slope,
        lower,
        upper,
        float(np.median(y - slope * x)),
        float(np.median(y - upper * x)),
        float(np.median(y - lower * x)),
        n_points,
    )
