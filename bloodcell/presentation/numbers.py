"""Figures as text, the same on terminals, on pages and in Markdown.

Fractions are in 0..1 and are shown in percent, with a space before the sign: 92.0 %. An interval has an en dash:
84.8–96.5. A missing figure is shown as a dash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from datetime import datetime

NOTHING: Final = "–"
"""Shown in place of a figure if nothing was counted or measured."""


class Estimate(Protocol):
    """A figure with its confidence interval; all three values are None if the denominator is 0."""

    @property
    def value(self) -> float | None: ...
    @property
    def lower(self) -> float | None: ...
    @property
    def upper(self) -> float | None: ...


def number(value: float | None, decimals: int = 1) -> str:
    """Returns a figure without a unit: 92.0.

    Args:
        value: The figure; None if there is none.
        decimals: Digits after the point.
    """
    return NOTHING if value is None else f"{value:.{decimals}f}"


def interval(bounds: tuple[float, float] | None, decimals: int = 1) -> str:
    """Returns both ends of an interval: 84.8–96.5, or −0.3 to 2.8 if an end is negative; empty without an interval.

    Args:
        bounds: Lower and upper end; None if there is no interval.
        decimals: Digits after the point.
    """
    if bounds is None:
        return ""
    lower, upper = _with_minus(number(bounds[0], decimals)), _with_minus(number(bounds[1], decimals))
    return f"{lower} to {upper}" if "−" in lower + upper else f"{lower}–{upper}"


def number_with_interval(found: Estimate | None, decimals: int = 3) -> str:
    """Returns a figure that is not a percentage, with its interval: 0.921 (0.850–0.961).

    Args:
        found: The figure; None if there is none.
        decimals: Digits after the point.
    """
    if found is None or found.value is None or found.lower is None or found.upper is None:
        return NOTHING
    return f"{_with_minus(number(found.value, decimals))} ({interval((found.lower, found.upper), decimals)})"


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Returns a fraction in 0..1 as a percentage: 92.0 %.

    Args:
        fraction: In 0..1; None if there is none.
        decimals: Digits after the point.
    """
    return NOTHING if fraction is None else f"{100 * fraction:.{decimals}f} %"


def percent_with_interval(found: Estimate | None) -> str:
    """Returns a fraction in 0..1 as a percentage with its interval: 92.0 % (84.8–96.5)."""
    if found is None or found.value is None or found.lower is None or found.upper is None:
        return NOTHING
    return f"{percent(found.value)} ({interval((100 * found.lower, 100 * found.upper))})"


def probability(value: float) -> str:
    """Returns a model's confidence in 0..1 in whole percent, never 100: 87 %, > 99 %."""
    return "> 99 %" if value > 0.99 else percent(value, 0)


def points(difference: float | None, decimals: int = 1) -> str:
    """Returns a difference of two fractions as signed percentage points: +1.2, −0.3, 0.0.

    Args:
        difference: In -1..1; None if there is none.
        decimals: Digits after the point.
    """
    if difference is None:
        return NOTHING
    text = f"{100 * difference:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def points_with_interval(found: Estimate | None, decimals: int = 1) -> str:
    """Returns a difference of two fractions with its interval, in percentage points: +1.2 (−0.3 to +2.8).

    Args:
        found: The difference, in -1..1; None if there is none.
        decimals: Digits after the point.
    """
    if found is None or found.value is None:
        return NOTHING
    lower, upper = points(found.lower, decimals), points(found.upper, decimals)
    return f"{points(found.value, decimals)} ({lower} to {upper})"


def p_value(p: float) -> str:
    """Returns the p-value of a test as text: p = 0.0312, p = 0.42, or p < 0.0001."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}" if p < 0.1 else f"p = {p:.2f}"


def count(n: float) -> str:
    """Returns a whole number with commas between thousands: 9,000."""
    return f"{n:,.0f}"


def counted(n: int, noun: str) -> str:
    """Returns a count with its noun, in the plural unless it is one: 1 slide, 2 slides.

    Args:
        n: The count.
        noun: The noun in the singular; its plural must end in s.
    """
    return f"{count(n)} {noun}" if n == 1 else f"{count(n)} {noun}s"


def moment(value: datetime | None) -> str:
    """Returns a date and time to the minute, with its time zone if it has one; empty for None."""
    return "" if value is None else f"{value:%Y-%m-%d %H:%M %Z}".strip()


def _with_minus(text: str) -> str:
    if "-" not in text:
        return text
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")
