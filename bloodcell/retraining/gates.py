"""A candidate has to pass every gate before a person is asked: named, measured, with a limit and a reason.

The gates are judged once, when the candidate is validated; the same tuple is stored, shown and checked again by
whatever promotes. A gate that cannot be judged for want of cells is failed: what is not shown is not so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.retraining.wording import percent, points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.evaluation.comparison import ClassDifference, Comparison
    from bloodcell.settings import Settings

_ROUNDING: Final = 1e-9
"""Limits and margins are floats: 0.29 of 100 cells is a hair below 29, and 29 cells are meant to be let pass."""

GATE_TITLES: Final = {
    "enough_holdout_cells": "Enough hold-out cells of each class",
    "enough_holdout_patients": "Enough hold-out patients",
    "not_worse_overall": "Not worse overall",
    "no_class_worse": "No class worse",
    "calibrated": "Confidence can be believed",
    "not_more_unclassified": "Not more unclassified",
}
"""Gate -> what a person reads, in the order they are judged."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition a candidate is held to.

    Attributes:
        gate: One of `GATE_TITLES`.
        passed: Whether the condition holds.
        measured: What was found; None where there is nothing to measure.
        limit: What it is compared with; None where nothing is.
        reason: One sentence with the numbers, for a log, a row and a page.
    """

    gate: str
    passed: bool
    measured: float | None
    limit: float | None
    reason: str


def judge(comparison: Comparison, settings: Settings) -> tuple[Gate, ...]:
    """Returns the six gates, always all and in the same order.

    Args:
        comparison: The candidate beside the champion, or alone.
        settings: Margins and least numbers (`gate_*`).
    """
    return (
        _enough_holdout_cells(comparison, settings.gate_min_holdout_cells),
        _enough_holdout_patients(comparison, settings.gate_min_holdout_patients),
        _not_worse_overall(comparison, settings),
        _no_class_worse(comparison, settings.gate_class_margin),
        _calibrated(comparison, settings.gate_max_calibration_error),
        _not_more_unclassified(comparison, settings.gate_unclassified_margin),
    )


def passed(gates: Sequence[Gate]) -> bool:
    """Whether there are gates, and every one of them is passed."""
    return bool(gates) and all(gate.passed for gate in gates)


def refusal(gates: Sequence[Gate]) -> str:
    """Returns the reasons of the gates that failed, one sentence after the other; empty where none did."""
    return " ".join(gate.reason for gate in gates if not gate.passed)


def _enough_holdout_cells(comparison: Comparison, least: int) -> Gate:
    too_few = [
        f"{cell_class} {n:,}" for cell_class, n in zip(CELL_CLASSES, comparison.n_by_class, strict=True) if n < least
    ]
    smallest = min(comparison.n_by_class)
    if not comparison.n_cells:
        reason = f"The hold-out is empty: every class needs {least:,} cells."
    elif too_few:
        reason = f"Too few hold-out cells of {', '.join(too_few)}: every class needs {least:,}."
    else:
        cell_class = CELL_CLASSES[comparison.n_by_class.index(smallest)]
        reason = (
            f"Every class has hold-out cells enough: the fewest, of {cell_class}, are {smallest:,}; "
            f"needed are {least:,}."
        )
    return Gate("enough_holdout_cells", not too_few, float(smallest), float(least), reason)


def _enough_holdout_patients(comparison: Comparison, least: int) -> Gate:
    n = comparison.n_patients
    holds = n >= least
    reason = f"The hold-out has {n:,} patient{'' if n == 1 else 's'}; needed are {least:,}."
    return Gate("enough_holdout_patients", holds, float(n), float(least), reason)


def _not_worse_overall(comparison: Comparison, settings: Settings) -> Gate:
    name, limit = "not_worse_overall", -settings.gate_accuracy_margin
    if comparison.champion_id is None:
        return _good_enough_to_begin_with(name, comparison, settings.gate_first_accuracy)
    candidate, champion, difference = comparison.candidate, comparison.champion, comparison.difference
    if candidate is None or champion is None or difference is None:
        return Gate(name, False, None, limit, "Whether accuracy falls cannot be judged: the hold-out is empty.")
    lower = difference.accuracy.lower
    holds = lower >= limit - _ROUNDING
    reason = (
        f"Accuracy goes from {percent(champion.accuracy.value)} to {percent(candidate.accuracy.value)}, "
        f"{points(difference.accuracy.value, 2)} points; the lower 95 % limit of the difference is {points(lower, 2)}, "
        f"{'not below' if holds else 'below'} the limit of {points(limit, 2)}."
    )
    return Gate(name, holds, lower, limit, reason)


def _good_enough_to_begin_with(name: str, comparison: Comparison, least: float) -> Gate:
    if comparison.candidate is None:
        return Gate(name, False, None, least, "Whether it is good enough cannot be judged: the hold-out is empty.")
    accuracy = comparison.candidate.accuracy
    holds = accuracy.lower >= least - _ROUNDING
    reason = (
        f"There is no champion that the candidate could be worse than. Its own accuracy is {percent(accuracy.value)}; "
        f"the lower 95 % limit, {percent(accuracy.lower)}, is {'not below' if holds else 'below'} the {percent(least)} "
        "that a first model needs."
    )
    return Gate(name, holds, accuracy.lower, least, reason)


def _no_class_worse(comparison: Comparison, margin: float) -> Gate:
    name = "no_class_worse"
    if comparison.champion_id is None:
        return Gate(name, True, None, margin, "There is no champion that the candidate could lose cells to.")
    if comparison.difference is None:
        return Gate(name, False, None, margin, "Whether a class gets worse cannot be judged: the hold-out is empty.")
    empty = [each.cell_class for each in comparison.difference.classes if not each.n_true]
    # first the class that comes nearest to what it may lose, or is furthest beyond it
    classes = sorted(
        (each for each in comparison.difference.classes if each.n_true),
        key=lambda each: (each.n_net_lost / _allowed(each, margin), each.n_net_lost / each.n_true),
        reverse=True,
    )
    worst = classes[0]
    beyond = [each.cell_class for each in classes if each.n_net_lost > _allowed(each, margin) + _ROUNDING]
    parts = []
    if beyond:
        parts.append(_lost(worst, margin).capitalize())
        if len(beyond) > 1:
            parts.append(f"also beyond what is let pass: {', '.join(beyond[1:])}")
    elif worst.n_net_lost > 0:
        parts.append(f"No class loses more than is let pass; nearest to it, {_lost(worst, margin)}")
    else:
        parts.append("No class has fewer cells right than with the champion")
    if empty:
        parts.append(f"not judged for want of hold-out cells: {', '.join(empty)}")
    return Gate(
        name,
        not beyond and not empty,
        worst.n_net_lost / worst.n_true,
        _allowed(worst, margin) / worst.n_true,
        "; ".join(parts) + ".",
    )


def _allowed(each: ClassDifference, margin: float) -> float:
    """Cells that a class may lose net: its margin, and one cell always, or a class of ten could lose none."""
    return max(1.0, margin * each.n_true)


def _lost(each: ClassDifference, margin: float) -> str:
    share = percent(each.n_net_lost / each.n_true)
    return (
        f"{each.cell_class} loses {each.n_net_lost:,} net of {each.n_true:,} cells ({share}: {each.n_lost:,} lost, "
        f"{each.n_won:,} won), let pass are {_number(_allowed(each, margin))}"
    )


def _calibrated(comparison: Comparison, largest: float) -> Gate:
    candidate = comparison.candidate
    if candidate is None:
        return Gate("calibrated", False, None, largest, "Calibration cannot be judged: the hold-out is empty.")
    error = candidate.calibration_error
    holds = error <= largest + _ROUNDING
    reason = (
        f"Confidence and accuracy lie {percent(error, 2)} apart on average (ECE), "
        f"{'within' if holds else 'beyond'} the {percent(largest, 2)} that are let pass."
    )
    return Gate("calibrated", holds, error, largest, reason)


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
    holds = rise <= margin + _ROUNDING
    reason = (
        f"Unclassified cells go from {percent(champion.unclassified.value)} to {percent(found)}, "
        f"{points(rise, 2)} points, {'within' if holds else 'beyond'} the {points(margin, 2)} points that are let pass."
    )
    return Gate(name, holds, rise, margin, reason)


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
