"""The gates of each class, on what is called: sensitivity among the called, precision, and the share unclassified.

A class fails if it loses more than its margin, and if the loss is likely to be more than chance: a class of ten cells
may lose one. Sensitivity is also compared by the most probable class, or a candidate could hide its errors below a
threshold. The first champion has nothing to be compared with, and needs a minimum in each class instead.
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

_ROUNDING: Final = 1e-9
_WORDS: Final[dict[Figure, str]] = {
    "sensitivity": "sensitivity among called cells",
    "top_sensitivity": "sensitivity by the most probable class",
    "precision": "precision",
    "unclassified": "share unclassified",
}
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
        return self.is_likely and (self.value is None or self.value > margin + _ROUNDING)


def class_gates(comparison: Comparison, settings: GateSettings) -> tuple[Gate, ...]:
    """Returns the three gates of the classes.

    Args:
        comparison: The candidate compared with the champion, or alone.
        settings: The margins, and what a first champion needs.
    """
    return (
        _gate("no_class_worse", "sensitivity", comparison, settings, settings.gate_class_margin),
        _gate("no_class_less_precise", "precision", comparison, settings, settings.gate_class_margin),
        _gate(
            "no_class_more_unclassified",
            "unclassified",
            comparison,
            settings,
            settings.gate_class_unclassified_margin,
        ),
    )


def classes_that_lose(difference: Difference, margin: float) -> list[str]:
    """Returns the classes whose sensitivity among called cells likely falls, and by more than `margin`."""
    losses = [_loss(each, "sensitivity", calls_any=True) for each in difference.classes if each.n_true]
    return [loss.cell_class for loss in losses if loss.is_beyond(margin)]


def _gate(name: str, figure: Figure, comparison: Comparison, settings: GateSettings, margin: float) -> Gate:
    candidate, difference = comparison.candidate, comparison.difference
    if candidate is None:
        return Gate(name, False, None, margin, f"The {_WORDS[figure]} cannot be judged: the hold-out is empty.")
    if comparison.champion_id is None or difference is None:
        return _first(name, figure, candidate.classes, settings.gate_first_class)
    empty = [each.cell_class for each in difference.classes if not each.n_true]
    figures = {each.cell_class: each for each in candidate.classes}
    losses = sorted(
        (
            _loss(each, judged, calls_any=figures[each.cell_class].n_called > 0)
            for each in difference.classes
            for judged in _JUDGED.get(figure, (figure,))
            if each.n_true
        ),
        key=lambda loss: (loss.is_beyond(margin), 1.0 if loss.value is None else loss.value),
        reverse=True,
    )
    worst = losses[0]
    beyond = list(dict.fromkeys(loss.cell_class for loss in losses if loss.is_beyond(margin)))
    parts = []
    if beyond:
        parts.append(f"Too much is lost: {_lost(worst, difference.classes, margin)}")
        if len(beyond) > 1:
            parts.append(f"also beyond what is allowed: {', '.join(beyond[1:])}")
    elif worst.value is not None and worst.value > 0:
        chance = "" if worst.value <= margin + _ROUNDING else ", which chance may explain"
        parts.append(
            f"No class loses more than is allowed; the closest: {_lost(worst, difference.classes, margin)}{chance}"
        )
    else:
        parts.append(f"No class has a worse {_WORDS[figure]} than with the champion")
    if empty:
        parts.append(
            f"whether every class is as good cannot be judged: there are no hold-out cells of {', '.join(empty)}"
        )
    measured = 1.0 if worst.value is None else worst.value
    return Gate(name, not beyond and not empty, measured, margin, "; ".join(parts) + ".")


def _loss(each: ClassDifference, figure: Figure, *, calls_any: bool) -> _Loss:
    found = getattr(each, figure)
    if found is None:
        # without calls there is neither sensitivity nor precision; that is a loss only if the candidate makes no calls
        return _Loss(each.cell_class, figure, None if not calls_any else 0.0, not calls_any)
    if figure == "unclassified":
        return _Loss(each.cell_class, figure, found.value, found.likely_from > 0)
    return _Loss(each.cell_class, figure, -found.value, found.likely_to < 0)


def _lost(loss: _Loss, classes: Sequence[ClassDifference], margin: float) -> str:
    n_true = next(each.n_true for each in classes if each.cell_class == loss.cell_class)
    if loss.value is None:
        return f"the candidate calls no cell {loss.cell_class}, of which there are {n_true:,}"
    change = loss.value if loss.figure == "unclassified" else -loss.value
    return (
        f"the {_WORDS[loss.figure]} of {loss.cell_class} ({n_true:,} cells) changes by {points(change, 2)} points, "
        f"{points(margin, 2)} are allowed"
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
