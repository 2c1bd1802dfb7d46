"""Figures in words, the same on the page and in the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bloodcell.cells.intervals import Proportion
    from bloodcell.evaluation.comparison import Comparison
    from bloodcell.evaluation.resampling import Interval
    from bloodcell.retraining.gates import Gate

NOTHING = "–"


def percent(value: float | None, decimals: int = 1) -> str:
    """Returns a share in 0..1 as a percentage."""
    return NOTHING if value is None else f"{100 * value:.{decimals}f} %"


def points(value: float | None, decimals: int = 1) -> str:
    """Returns a difference of shares as signed percentage points."""
    if value is None:
        return NOTHING
    text = f"{100 * value:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def share(found: Interval | Proportion | None) -> str:
    """Returns a share with its limits: 92.0 % (84.8–96.5)."""
    if found is None or found.value is None or found.lower is None or found.upper is None:
        return NOTHING
    return f"{percent(found.value)} ({100 * found.lower:.1f}–{100 * found.upper:.1f})"


def index(found: Interval) -> str:
    """Returns a figure that is no percentage, with its limits: 0.921 (0.850–0.961)."""
    return f"{found.value:.3f} ({found.lower:.3f}–{found.upper:.3f})"


def difference(found: Interval | None, *, decimals: int = 1) -> str:
    """Returns a difference of shares with its limits, in points: +1.2 (−0.3 to +2.8)."""
    if found is None:
        return NOTHING
    return f"{points(found.value, decimals)} ({points(found.lower, decimals)} to {points(found.upper, decimals)})"


def p_value(p: float) -> str:
    """Returns p, or below what it is."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}" if p < 0.1 else f"p = {p:.2f}"


def gate_value(gate: Gate, value: float | None) -> str:
    """Returns a gate's measured value or limit in the gate's own unit."""
    if value is None:
        return NOTHING
    if gate.gate.startswith("enough_"):
        return f"{value:,.0f}"
    if gate.gate in {"not_worse_overall", "not_more_unclassified"}:
        return f"{points(value, 2)} points"
    if gate.gate == "no_class_worse":
        return f"{percent(abs(value), 2)} {'won' if value < 0 else 'lost'}"
    return percent(value, 2)


def mcnemar(comparison: Comparison) -> str:
    """Returns the sentence on the cells that only one of the two has right; empty without a champion."""
    found = comparison.difference
    if found is None:
        return ""
    if not found.n_only_candidate and not found.n_only_champion:
        return "No cell changes sides: candidate and champion have the same ones right."
    return (
        f"Only the candidate has {found.n_only_candidate:,} cells right, only the champion {found.n_only_champion:,} "
        f"(McNemar, exact: {p_value(found.mcnemar_p)})."
    )
