"""Judging a candidate by its gates: named conditions, each measured, compared with a threshold, and explained.

The gates are judged once, when a candidate is validated. The result is stored and shown, and is checked again when
the candidate is promoted (`bloodcell.registry.promotion_proof`). A gate that cannot be judged because there are too few
cells fails. The gates of each class are in `class_gates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation.patient_intervals import cells_to_show_equality
from bloodcell.presentation.numbers import counted, percent, percent_with_interval, points
from bloodcell.registry.promotion_proof import GATES, Gate
from bloodcell.retraining.class_gates import class_gates, classes_that_lose, is_beyond

if TYPE_CHECKING:
    from bloodcell.evaluation.comparison_records import Comparison, Difference
    from bloodcell.evidence_settings import GateSettings

GATE_TITLES: Final = dict(
    zip(
        GATES,
        (
            "Enough hold-out cells of each class",
            "Enough hold-out patients",
            "Not worse overall",
            "No class worse",
            "No class less precise",
            "No class more often unclassified",
            "Not more unclassified",
            "Cells out of scope are held back",
            "Confidence is calibrated",
            "Not worse than the anchor",
        ),
        strict=True,
    )
)
"""Gate -> its title on pages, in the order in which they are judged."""

_ROUNDING: Final = 1e-9
"""Added to thresholds, because floats are not exact: 0.29 * 100 is slightly below 29, and 29 cells must pass."""


def judge_gates(comparison: Comparison, settings: GateSettings) -> tuple[Gate, ...]:
    """Returns the gates, always all of them and in the order of `GATE_TITLES`.

    Args:
        comparison: The candidate compared with the champion, or alone where there is no champion.
        settings: The thresholds (`gate_*`).
    """
    return (
        _enough_holdout_cells(comparison, settings),
        _enough_holdout_patients(comparison, settings.gate_min_holdout_patients),
        _not_worse_overall(comparison, settings),
        *class_gates(comparison, settings),
        _not_more_unclassified(comparison, settings.gate_unclassified_margin),
        _out_of_scope_held_back(comparison, settings),
        _calibrated(comparison, settings.gate_max_calibration_error),
        _not_worse_than_anchor(comparison, settings),
    )


def _enough_holdout_cells(comparison: Comparison, settings: GateSettings) -> Gate:
    """Judges the number of cells and patients of each class, and whether two equal models could be told to be equal."""
    n_required, n_patients_required = settings.gate_min_holdout_cells, settings.gate_min_class_patients
    too_few = [
        f"{cell_class} {n:,}"
        for cell_class, n in zip(CELL_CLASSES, comparison.n_by_class, strict=True)
        if n < n_required
    ]
    few_patients = [
        f"{cell_class} {n:,}"
        for cell_class, n in zip(CELL_CLASSES, comparison.n_patients_by_class, strict=True)
        if n < n_patients_required
    ]
    smallest, least = min(comparison.n_by_class), cells_to_show_equality(settings.gate_accuracy_margin)
    parts = []
    if not comparison.n_cells:
        parts.append(
            f"The hold-out is empty: every class needs {n_required:,} cells of the random sample that were read blind "
            "(bloodcell labels sample)"
        )
    elif too_few:
        parts.append(f"Too few hold-out cells of {', '.join(too_few)}: every class needs {n_required:,}")
    elif few_patients:
        parts.append(f"Too few patients with {', '.join(few_patients)}: every class needs {n_patients_required:,}")
    if comparison.n_cells and comparison.champion_id and comparison.n_cells < least:
        parts.append(
            f"{'too' if parts else 'Too'} few hold-out cells to show that two equal models are equal: "
            f"{comparison.n_cells:,}, {least:,} are needed"
        )
    passed = not parts
    if passed:
        cell_class = CELL_CLASSES[comparison.n_by_class.index(smallest)]
        parts.append(
            f"Every class has enough hold-out cells: the smallest class, {cell_class}, has {smallest:,}; "
            f"{n_required:,} are needed"
        )
    return Gate("enough_holdout_cells", passed, float(smallest), float(n_required), "; ".join(parts) + ".")


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


def _out_of_scope_held_back(comparison: Comparison, settings: GateSettings) -> Gate:
    """Judges the cells that no class fits: the share left unclassified, and whether the champion leaves more."""
    name, least = "out_of_scope_held_back", settings.gate_min_held_back
    n, n_required = comparison.n_out_of_scope, settings.gate_min_out_of_scope_cells
    n_patients, candidate = comparison.n_patients_out_of_scope, comparison.candidate
    if candidate is None or n < n_required or (n_required and n_patients < settings.gate_min_class_patients):
        reason = (
            f"Whether cells out of scope are held back cannot be judged: {n:,} such cells of the random sample, of "
            f"{counted(n_patients, 'patient')}, were read blind; {n_required:,} cells of "
            f"{counted(settings.gate_min_class_patients, 'patient')} are needed."
        )
        return Gate(name, False, None, least, reason)
    if candidate.held_back is None:
        return Gate(name, True, None, least, "No labelled cell is out of scope, and none is needed.")
    found = candidate.held_back.value
    held_back = f"{percent(found)} of {n:,} cells out of scope stay unclassified"
    is_worse = comparison.difference is not None and _holds_less_back(comparison.difference, settings)
    if found < least - _ROUNDING:
        reason = f"Too few cells out of scope are held back: {held_back}; at least {percent(least)} are needed."
    elif is_worse and comparison.difference and comparison.difference.held_back:
        reason = (
            f"Fewer cells out of scope are held back than by the champion: {held_back}, "
            f"{points(comparison.difference.held_back.value, 2)} points; a loss of "
            f"{percent(settings.gate_held_back_margin)} is allowed."
        )
    else:
        reason = f"Enough cells out of scope are held back: {held_back}; at least {percent(least)} are needed."
    return Gate(name, found >= least - _ROUNDING and not is_worse, found, least, reason)


def _holds_less_back(difference: Difference, settings: GateSettings) -> bool:
    change = difference.held_back
    return change is not None and is_beyond(
        -change.value, settings.gate_held_back_margin, is_likely=change.likely_to < 0
    )


def _calibrated(comparison: Comparison, threshold: float) -> Gate:
    candidate = comparison.candidate
    if candidate is None:
        return Gate("calibrated", False, None, threshold, "Calibration cannot be judged: the hold-out is empty.")
    error = candidate.calibration
    passed = error.lower <= threshold + _ROUNDING
    reason = (
        f"Confidence is {'' if passed else 'not '}calibrated: beyond what chance adds, it differs from accuracy by "
        f"{percent_with_interval(error)} (root mean square); the lower end of the interval is "
        f"{'not above' if passed else 'above'} the threshold of {percent(threshold)}."
    )
    return Gate("calibrated", passed, error.lower, threshold, reason)


def _not_worse_than_anchor(comparison: Comparison, settings: GateSettings) -> Gate:
    """Judges against a model that stays the same: losses that each champion is allowed would add up."""
    name, threshold = "not_worse_than_anchor", -settings.gate_accuracy_margin
    if comparison.candidate is None:
        return Gate(name, False, None, threshold, "The anchor cannot be compared with: the hold-out is empty.")
    difference = comparison.anchor_difference
    if difference is None:
        reason = "The first approved champion is champion now or is the candidate, or there is none: no other anchor."
        return Gate(name, True, None, threshold, reason)
    lower, rise = difference.accuracy.lower, difference.unclassified.value
    lost = classes_that_lose(comparison.candidate.classes, difference, settings)
    if rise > settings.gate_unclassified_margin + _ROUNDING:
        lost.append(f"{points(rise, 2)} points more unclassified")
    if _holds_less_back(difference, settings):
        lost.append("fewer cells out of scope are held back")
    is_as_accurate = lower >= threshold - _ROUNDING
    beyond = f"; too much is lost: {', '.join(lost)}" if lost else ""
    reason = (
        f"Compared with the anchor {difference.other_id[:12]}, the first approved champion, accuracy "
        f"{'does not fall too far' if is_as_accurate else 'may fall too far'}: "
        f"{points(difference.accuracy.value, 2)} points, lower end of the 95 % interval {points(lower, 2)}, threshold "
        f"{points(threshold, 2)}{beyond}."
    )
    return Gate(name, is_as_accurate and not lost, lower, threshold, reason)
