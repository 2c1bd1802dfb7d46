"""A validation in a screenful of Markdown: what the person who approves reads in Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CLASS_NAMES, REPORT_ORDER
from bloodcell.presentation import numbers
from bloodcell.presentation.markdown import Markdown, bold, escaped, markdown_table
from bloodcell.registry.promotion_proof import all_passed
from bloodcell.retraining.gates import GATE_TITLES
from bloodcell.retraining.validation_wording import attempts, discordant_cells, gate_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.evaluation.comparison_records import Comparison, ModelFigures
    from bloodcell.registry.promotion_proof import Gate
    from bloodcell.retraining.validation_page import ValidationFacts

_LONGEST_TEXT: Final = 300
"""Characters shown of what a person typed; the page has all of it."""

_ROLES: Final = ("the candidate", "the champion")

_FIGURES: Final = (
    "Accuracy",
    "Macro F1",
    "Correct among called",
    "Unclassified",
    "Calibration error",
    "Out of scope left unclassified",
)


def summary_markdown(comparison: Comparison, gates: Sequence[Gate], facts: ValidationFacts) -> str:
    """Returns the summary of a candidate's validation, in Markdown with tables.

    Args:
        comparison: The candidate compared with the champion, or alone.
        gates: The gates of this comparison.
        facts: Where the candidate comes from.
    """
    parts = [_verdict(comparison, gates), _origin(comparison, facts)]
    if comparison.candidate:
        parts += [_figures(comparison, ("candidate", "champion")), _changes(comparison, _ROLES)]
    parts += [_gates(gates)]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_markdown(comparison: Comparison, gates: Sequence[Gate]) -> str:
    """Returns two models side by side, in Markdown with tables; neither of them is a candidate, and none is refused.

    Args:
        comparison: The first model in the place of the candidate, the other in the place of the champion.
        gates: The gates of this comparison.
    """
    first, other = comparison.candidate, comparison.champion
    if first is None or other is None:
        return "The hold-out is empty, so there is nothing to compare. Next: bloodcell labels status\n"
    names = (_named(first), _named(other))
    failed = [gate for gate in gates if not gate.passed]
    verdict = f"If {names[1]} were champion, {names[0]} would {'not pass' if failed else 'pass'} the gates."
    parts = [
        f"### {names[0]} compared with {names[1]}",
        f"On {comparison.n_cells:,} hold-out cells of {comparison.n_patients:,} patients; nothing is recorded.",
        _figures(comparison, (first.variant, other.variant)),
        _changes(comparison, names),
        "\n".join([verdict, "", *(f"- {gate.reason}" for gate in failed)]),
        _gates(gates),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _named(model: ModelFigures) -> Markdown:
    return Markdown(f"{escaped(model.variant)} `{model.model_id[:12]}`")


def _verdict(comparison: Comparison, gates: Sequence[Gate]) -> str:
    failed = [gate for gate in gates if not gate.passed]
    name = f"`{comparison.candidate_id[:12]}`"
    if comparison.candidate:
        name = _named(comparison.candidate)
    if all_passed(gates):
        return f"### ✓ {name} passed all {len(gates)} gates"
    reasons = "\n".join(f"- {gate.reason}" for gate in failed)
    return f"### ✗ {name} is refused: {len(failed)} of {len(gates)} gates failed\n\n{reasons}"


def _origin(comparison: Comparison, facts: ValidationFacts) -> str:
    champion = comparison.champion
    against = f"against the champion {_named(champion)}" if champion else "without a champion to compare with"
    login = f", login {_typed(facts.triggered_by)}" if facts.triggered_by else ""
    return (
        f"Validated on {comparison.n_cells:,} hold-out cells of {comparison.n_patients:,} patients, {against}. "
        f"Requested by {_typed(facts.requested_by)}{login}: {_typed(facts.reason)}. "
        f"Data set `{facts.dataset_digest[:12]}`. {attempts(facts.n_attempts)}"
    )


def _figures(comparison: Comparison, heads: tuple[str, str]) -> str:
    models = [model for model in (comparison.candidate, comparison.champion) if model]
    header = ["", *heads[: len(models)]]
    columns = [_column(model) for model in models]
    if found := comparison.difference:
        header.append("difference, points")
        columns.append(
            [
                numbers.points_with_interval(found.accuracy),
                numbers.points_with_interval(found.macro_f1),
                "",
                numbers.points_with_interval(found.unclassified),
                numbers.points(models[0].calibration.value - models[1].calibration.value, 2),
                numbers.points_with_interval(found.held_back),
            ]
        )
    return markdown_table(header, [[name, *map(Markdown, row)] for name, *row in zip(_FIGURES, *columns, strict=True)])


def _column(model: ModelFigures) -> list[str]:
    return [
        numbers.percent_with_interval(model.accuracy),
        numbers.number_with_interval(model.macro_f1),
        numbers.percent_with_interval(model.covered_accuracy),
        numbers.percent_with_interval(model.unclassified),
        numbers.percent_with_interval(model.calibration),
        numbers.percent_with_interval(model.held_back),
    ]


def _changes(comparison: Comparison, names: tuple[str, str]) -> str:
    """Returns what would change for the cells of the hold-out."""
    if comparison.difference is None:
        return ""
    classes = {each.cell_class: each for each in comparison.difference.classes}
    lines = [
        f"- {CLASS_NAMES[cell_class]}: {_gain(-each.n_net_lost)} of {each.n_true:,} "
        f"({each.n_won:,} won, {each.n_lost:,} lost)"
        for cell_class, each in ((cell_class, classes[cell_class]) for cell_class in REPORT_ORDER)
        if each.n_won or each.n_lost
    ]
    return "\n".join(["**What changes.** " + discordant_cells(comparison, names), "", *lines])


def _gain(n: int) -> str:
    return f"{n:,} more correct" if n > 0 else f"{-n:,} fewer correct" if n < 0 else "as many correct"


def _gates(gates: Sequence[Gate]) -> str:
    rows = [
        [
            "✓" if gate.passed else bold("✗"),
            GATE_TITLES.get(gate.gate, gate.gate),
            Markdown(gate_value(gate, gate.measured)),
            Markdown(gate_value(gate, gate.threshold)),
        ]
        for gate in gates
    ]
    return markdown_table(["", "Gate", "measured", "threshold"], rows)


def _typed(text: str) -> Markdown:
    return escaped(text, longest=_LONGEST_TEXT)
