"""Figures and sentences that a validation's page and its summary share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.presentation.numbers import NOTHING, count, p_value, percent, points

if TYPE_CHECKING:
    from bloodcell.evaluation.comparison_records import Comparison
    from bloodcell.registry.promotion_proof import Gate


def gate_value(gate: Gate, value: float | None) -> str:
    """Returns a gate's measured value or its threshold, in the gate's own unit."""
    if value is None:
        return NOTHING
    if gate.gate.startswith("enough_"):
        return count(value)
    if gate.gate in {"not_worse_overall", "not_more_unclassified", "not_worse_than_anchor"}:
        return f"{points(value, 2)} points"
    if gate.gate.startswith("no_class_"):
        return f"{percent(abs(value), 2)} {'better' if value < 0 else 'worse'}"
    return percent(value, 2)


def discordant_cells(comparison: Comparison, names: tuple[str, str] = ("the candidate", "the champion")) -> str:
    """Returns a sentence about the cells that only one of two models classifies correctly; empty without a champion.

    Args:
        comparison: The two models, compared.
        names: What to call them.
    """
    found = comparison.difference
    if found is None:
        return ""
    if not found.n_only_candidate and not found.n_only_other:
        return f"{names[0][:1].upper()}{names[0][1:]} and {names[1]} classify the same cells correctly."
    return (
        f"{count(found.n_only_candidate)} cells are classified correctly by {names[0]} only, "
        f"{count(found.n_only_other)} by {names[1]} only (exact McNemar test, {p_value(found.mcnemar_p)})."
    )


def attempts(n: int) -> str:
    """Returns a sentence about how many models this hold-out has judged."""
    if n == 1:
        return "It is the first model that this hold-out judges."
    return (
        f"This hold-out has judged {count(n)} models: the more it judges, the easier one of them passes by chance. "
        "That is why the lockbox is opened at the promotion."
    )
