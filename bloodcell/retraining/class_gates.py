"""The gates of each class, on what is called: sensitivity among the called, precision, and the share unclassified.

A class fails if it loses more than its margin, and if the loss is likely to be more than chance: a class of ten cells
may lose one. A loss of more than three margins fails in any case. Sensitivity is also compared by the most probable
class, or a candidate could hide its errors below a threshold. The first champion has nothing to be compared with, and
needs a minimum in each class instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bloodcell.presentation.numbers import percent, points
from bloodcell.registry.promotion_proof import Gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.evaluation.comparison_records import ClassDifference, ClassFigures, Comparison, Difference
    from bloodcell.evidence_settings import GateSettings

Figure = Literal["sensitivity", "top_sensitivity", "precision", "unclassified"]

HARD_CAP: Final = 3.0
"""Margins beyond which a loss fails even if few patients cannot show that it is no chance."""

_ROUNDING: Final = 1e-9
_WORDS: Final[dict[Figure, str]] = {
    "sensitivity": "sensitivity among called cells",
    "top_sensitivity": "sensitivity by the most probable class",
    "precision": "precision",
    "unclassified": "share unclassified",
}
_GATES: Final[tuple[tuple[str, Figure], ...]] = (
    ("no_class_worse", "sensitivity"),
    ("no_class_less_precise", "precision"),
    ("no_class_more_unclassified", "unclassified"),
)
_JUDGED: Final[dict[Figure, tuple[Figure, ...]]] = {"sensitivity": ("sensitivity", "top_sensitivity")}


@dataclass(frozen=True, slots=True)
class _Loss:
    """How much worse a class is.

    Attributes:
        cell_class: The class.
        figure: What is worse.
        value: Loss in 0..1, negative for a gain; None where the candidate has no such cell and the champion has.
        is_likely: Whether chance alone hardly explains it.
    """

    cell_class: str
    figure: Figure
    value: float | None
    is_likely: bool

    def is_beyond(self, margin: float) -> bool:
        return self.value is None or is_beyond(self.value, margin, is_likely=self.is_likely)


def is_beyond(loss: float, margin: float, *, is_likely: bool) -> bool:
    """Returns whether a loss is more than its margin allows, and more than chance explains.

    Args:
        loss: In 0..1, negative for a gain.
        margin: The largest loss that is allowed.
        is_likely: Whether a one-sided test says that there is a loss (`bloodcell.evaluation.patient_intervals.LIKELY`).
    """
    return loss > (margin if is_likely else HARD_CAP * margin) + _ROUNDING


def class_gates(comparison: Comparison, settings: GateSettings) -> tuple[Gate, ...]:
    """Returns the three gates of the classes.

    Args:
        comparison: The candidate compared with the champion, or alone.
        settings: The margins, and what a first champion needs.
    """
    return tuple(_gate(name, figure, comparison, settings) for name, figure in _GATES)


def classes_that_lose(classes: Sequence[ClassFigures], difference: Difference, settings: GateSettings) -> list[str]:
    """Returns "ig (precision)" and the like: what each class loses beyond what the class gates allow.

    Args:
        classes: The candidate's figures.
        difference: The candidate minus the model that it must not lose against.
        settings: The margins.
    """
    return [
        f"{loss.cell_class} ({_WORDS[loss.figure]})"
        for _, figure in _GATES
        for loss in _losses(classes, difference, figure)
        if loss.is_beyond(_margin(figure, settings))
    ]


def _gate(name: str, figure: Figure, comparison: Comparison, settings: GateSettings) -> Gate:
    candidate, difference, margin = comparison.candidate, comparison.difference, _margin(figure, settings)
    if candidate is None:
        return Gate(name, False, None, margin, f"The {_WORDS[figure]} cannot be judged: the hold-out is empty.")
    if comparison.champion_id is None or difference is None:
        return _first(name, figure, candidate.classes, settings.gate_first_class)
    empty = [each.cell_class for each in difference.classes if not each.n_true]
    losses = sorted(
        _losses(candidate.classes, difference, figure),
        key=lambda loss: (loss.is_beyond(margin), 1.0 if loss.value is None else loss.value),
        reverse=True,
    )
    worst = losses[0]
    beyond = list(dict.fromkeys(loss.cell_class for loss in losses if loss.is_beyond(margin)))
    parts = []
    if beyond:
        parts.append(f"Too much is lost: {_lost(worst, candidate.classes, margin)}")
        if len(beyond) > 1:
            parts.append(f"also beyond what is allowed: {', '.join(beyond[1:])}")
    elif worst.value is not None and worst.value > 0:
        chance = "" if worst.value <= margin + _ROUNDING else ", which chance may explain"
        parts.append(
            f"No class loses more than is allowed; the closest: {_lost(worst, candidate.classes, margin)}{chance}"
        )
    else:
        parts.append(f"No class has a worse {_WORDS[figure]} than with the champion")
    if empty:
        parts.append(
            f"whether every class is as good cannot be judged: there are no hold-out cells of {', '.join(empty)}"
        )
    measured = 1.0 if worst.value is None else worst.value
    return Gate(name, not beyond and not empty, measured, margin, "; ".join(parts) + ".")


def _losses(classes: Sequence[ClassFigures], difference: Difference, figure: Figure) -> list[_Loss]:
    calls_any = {each.cell_class: each.n_called > 0 for each in classes}
    return [
        _loss(each, judged, calls_any=calls_any[each.cell_class])
        for each in difference.classes
        for judged in _JUDGED.get(figure, (figure,))
        if each.n_true
    ]


def _margin(figure: Figure, settings: GateSettings) -> float:
    return settings.gate_class_unclassified_margin if figure == "unclassified" else settings.gate_class_margin


def _loss(each: ClassDifference, figure: Figure, *, calls_any: bool) -> _Loss:
    found = getattr(each, figure)
    if found is None:
        # without calls there is neither sensitivity nor precision; that is a loss only if the candidate makes no calls
        return _Loss(each.cell_class, figure, 0.0 if calls_any else None, not calls_any)
    if figure == "unclassified":
        return _Loss(each.cell_class, figure, found.value, found.likely_from > 0)
    return _Loss(each.cell_class, figure, -found.value, found.likely_to < 0)


def _lost(loss: _Loss, classes: Sequence[ClassFigures], margin: float) -> str:
    of_class = next(each for each in classes if each.cell_class == loss.cell_class)
    if loss.value is None:
        return f"the candidate calls no cell {loss.cell_class}, of which there are {of_class.n_true:,}"
    is_rise = loss.figure == "unclassified"
    cells = f"{of_class.n_called:,} called" if loss.figure == "precision" else f"{of_class.n_true:,} cells"
    return (
        f"the {_WORDS[loss.figure]} of {loss.cell_class} ({cells}) changes by "
        f"{points(loss.value if is_rise else -loss.value, 2)} points; a {'rise' if is_rise else 'loss'} of "
        f"{percent(margin)} is allowed"
    )


def _first(name: str, figure: Figure, classes: Sequence[ClassFigures], least: float) -> Gate:
    """Judges a first champion: each class called, and called correctly, often enough."""
    empty = [each.cell_class for each in classes if not each.n_true]
    found = {each.cell_class: _share(each, figure) for each in classes if each.n_true}
    worst = min(found, key=lambda cell_class: found[cell_class])
    too_low = [cell_class for cell_class, share in found.items() if share < least - _ROUNDING]
    what = "share with a call" if figure == "unclassified" else _WORDS[figure]
    start = "There is no champion to compare with"
    if empty:
        reason = f"{start}, and there are no hold-out cells of {', '.join(empty)}."
    else:
        reason = (
            f"{start}; the lowest {what} is that of {worst}, {percent(found[worst])}, "
            f"{'below' if too_low else 'not below'} the {percent(least)} that a first model needs."
        )
    return Gate(name, not too_low and not empty, found[worst], least, reason)


def _share(each: ClassFigures, figure: Figure) -> float:
    found = getattr(each, figure)
    if found is None:
        return 0.0
    return 1 - float(found.value) if figure == "unclassified" else float(found.value)
