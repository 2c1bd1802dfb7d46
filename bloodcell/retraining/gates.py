"""Judging a candidate by its gates: six named conditions, each measured, compared with a threshold, and explained.

The gates are judged once, when a candidate is validated. The result is stored and shown, and is checked again when
the candidate is promoted (`bloodcell.registry.promotion_proof`). A gate that cannot be judged because there are too few
cells fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.presentation.numbers import counted, percent, points
from bloodcell.registry.promotion_proof import Gate

if TYPE_CHECKING:
    from bloodcell.evaluation.comparison_records import ClassDifference, Comparison
    from bloodcell.settings import GateSettings

GATE_TITLES: Final = {
    "enough_holdout_cells": "Enough hold-out cells of each class",
    "enough_holdout_patients": "Enough hold-out patients",
    "not_worse_overall": "Not worse overall",
    "no_class_worse": "No class worse",
    "calibrated": "Confidence is calibrated",
    "not_more_unclassified": "Not more unclassified",
}
"""Gate -> its title on pages, in the order in which they are judged."""

_ROUNDING: Final = 1e-9
"""Added to thresholds, because floats are not exact: 0.29 * 100 is slightly below 29, and 29 cells must pass."""


def judge_gates(comparison: Comparison, settings: GateSettings) -> tuple[Gate, ...]:
    """Returns the six gates, always all of them and in the same order.

    Args:
        comparison: The candidate compared with the champion, or alone where there is no champion.
        settings: The thresholds (`gate_*`).
    """
    return (
        _enough_holdout_cells(comparison, settings.gate_min_holdout_cells),
        _enough_holdout_patients(comparison, settings.gate_min_holdout_patients),
        _not_worse_overall(comparison, settings),
        _no_class_worse(comparison, settings.gate_class_margin),
        _calibrated(comparison, settings.gate_max_calibration_error),
        _not_more_unclassified(comparison, settings.gate_unclassified_margin),
    )


def _enough_holdout_cells(comparison: Comparison, n_required: int) -> Gate:
    too_few = [
        f"{cell_class} {n:,}"
        for cell_class, n in zip(CELL_CLASSES, comparison.n_by_class, strict=True)
        if n < n_required
    ]
    smallest = min(comparison.n_by_class)
    if not comparison.n_cells:
        reason = f"The hold-out is empty: every class needs {n_required:,} cells."
    elif too_few:
        reason = f"Too few hold-out cells of {', '.join(too_few)}: every class needs {n_required:,}."
    else:
        cell_class = CELL_CLASSES[comparison.n_by_class.index(smallest)]
        reason = (
            f"Every class has enough hold-out cells: the smallest class, {cell_class}, has {smallest:,}; "
            f"{n_required:,} are needed."
        )
    return Gate("enough_holdout_cells", not too_few, float(smallest), float(n_required), reason)


def _enough_holdout_patients(comparison: Comparison, n_required: int) -> Gate:
    n = comparison.n_patients
    passed = n >= n_required
    start = "The hold-out has enough patients" if passed else "Too few hold-out patients"
    reason = f"{start}: it has {counted(n, 'patient')}; {n_required:,} are needed."
    return Gate("enough_holdout_patients", passed, float(n), float(n_required), reason)


def _not_worse_overall(comparison: Comparison, settings: GateSettings) -> Gate:
    name, threshold = "not_worse_overall", -settings.gate_accuracy_margin
    if comparison.champion_id is None:
        return _good_enough_as_first(name, comparison, settings.gate_first_accuracy)
    candidate, champion, difference = comparison.candidate, comparison.champion, comparison.difference
    if candidate is None or champion is None or difference is None:
        return Gate(name, False, None, threshold, "Whether accuracy falls cannot be judged: the hold-out is empty.")
    lower = difference.accuracy.lower
    passed = lower >= threshold - _ROUNDING
    reason = (
        f"{'Accuracy does not fall too far' if passed else 'Accuracy may fall too far'}: it goes from "
        f"{percent(champion.accuracy.value)} to {percent(candidate.accuracy.value)}, "
        f"{points(difference.accuracy.value, 2)} points; the lower end of the 95 % interval of the difference, "
        f"{points(lower, 2)}, is {'not below' if passed else 'below'} the threshold of {points(threshold, 2)}."
    )
    return Gate(name, passed, lower, threshold, reason)


def _good_enough_as_first(name: str, comparison: Comparison, threshold: float) -> Gate:
    if comparison.candidate is None:
        reason = "Whether the candidate is good enough cannot be judged: the hold-out is empty."
        return Gate(name, False, None, threshold, reason)
    accuracy = comparison.candidate.accuracy
    passed = accuracy.lower >= threshold - _ROUNDING
    reason = (
        f"There is no champion to compare with, and the candidate is {'' if passed else 'not '}good enough as the "
        f"first model: its accuracy is {percent(accuracy.value)}; the lower end of its 95 % interval, "
        f"{percent(accuracy.lower)}, is {'not below' if passed else 'below'} the "
        f"{percent(threshold)} that a first model needs."
    )
    return Gate(name, passed, accuracy.lower, threshold, reason)


def _no_class_worse(comparison: Comparison, margin: float) -> Gate:
    name = "no_class_worse"
    if comparison.champion_id is None:
        return Gate(name, True, None, margin, "There is no champion to compare with.")
    if comparison.difference is None:
        return Gate(name, False, None, margin, "Whether a class gets worse cannot be judged: the hold-out is empty.")
    empty = [each.cell_class for each in comparison.difference.classes if not each.n_true]
    # the class that is closest to its allowed loss, or furthest beyond it, comes first
    classes = sorted(
        (each for each in comparison.difference.classes if each.n_true),
        key=lambda each: (each.n_net_lost / _allowed(each, margin), each.n_net_lost / each.n_true),
        reverse=True,
    )
    worst = classes[0]
    beyond = [each.cell_class for each in classes if each.n_net_lost > _allowed(each, margin) + _ROUNDING]
    parts = []
    if beyond:
        parts.append(f"Too many cells lost: {_lost(worst, margin)}")
        if len(beyond) > 1:
            parts.append(f"also beyond what is allowed: {', '.join(beyond[1:])}")
    if empty:
        unjudged = f"there are no hold-out cells of {', '.join(empty)}"
        parts.append(unjudged if beyond else f"Whether every class is as good cannot be judged: {unjudged}")
    if not beyond and not empty:
        if worst.n_net_lost > 0:
            parts.append(f"No class loses more than is allowed; the closest: {_lost(worst, margin)}")
        else:
            parts.append("No class has fewer correct cells than with the champion")
    return Gate(
        name,
        not beyond and not empty,
        worst.n_net_lost / worst.n_true,
        _allowed(worst, margin) / worst.n_true,
        "; ".join(parts) + ".",
    )


def _allowed(each: ClassDifference, margin: float) -> float:
    """Returns the cells that a class may lose net: its margin, but at least one, or a class of ten could lose none."""
    return max(1.0, margin * each.n_true)


def _lost(each: ClassDifference, margin: float) -> str:
    share = percent(each.n_net_lost / each.n_true)
    allowed = f"{_allowed(each, margin):,.1f}".removesuffix(".0")
    return (
        f"{each.cell_class} loses {each.n_net_lost:,} net of {each.n_true:,} cells ({share}: {each.n_lost:,} lost, "
        f"{each.n_won:,} won), {allowed} are allowed"
    )


def _calibrated(comparison: Comparison, threshold: float) -> Gate:
    candidate = comparison.candidate
    if candidate is None:
        return Gate("calibrated", False, None, threshold, "Calibration cannot be judged: the hold-out is empty.")
    error = candidate.calibration_error
    passed = error <= threshold + _ROUNDING
    reason = (
        f"Confidence is {'' if passed else 'not '}calibrated: it differs from accuracy by {percent(error, 2)} on "
        "average (ECE), "
        f"{'not above' if passed else 'above'} the threshold of {percent(threshold, 2)}."
    )
    return Gate("calibrated", passed, error, threshold, reason)


def _not_more_unclassified(comparison: Comparison, margin: float) -> Gate:
    name = "not_more_unclassified"
    candidate, champion, difference = comparison.candidate, comparison.champion, comparison.difference
    if candidate is None:
        reason = "The share of unclassified cells cannot be judged: the hold-out is empty."
        return Gate(name, False, None, margin, reason)
    found = candidate.unclassified.value
    if champion is None or difference is None:
        reason = (
            f"There is no champion to compare with; the candidate leaves {percent(found)} of the cells unclassified."
        )
        return Gate(name, True, None, margin, reason)
    rise = difference.unclassified.value
    passed = rise <= margin + _ROUNDING
    reason = (
        f"{'Not many' if passed else 'Too many'} more cells stay unclassified: the share goes from "
        f"{percent(champion.unclassified.value)} to {percent(found)}, "
        f"{points(rise, 2)} points, {'not above' if passed else 'above'} the threshold of {points(margin, 2)} points."
    )
    return Gate(name, passed, rise, margin, reason)
