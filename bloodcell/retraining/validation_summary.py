"""A validation in a screenful of Markdown: what the person who approves sees in Airflow."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CLASS_NAMES, REPORT_ORDER
from bloodcell.report.slide_page import visible
from bloodcell.retraining import wording
from bloodcell.retraining.gates import GATE_TITLES, passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.evaluation.comparison import Comparison, ModelFigures
    from bloodcell.retraining.gates import Gate
    from bloodcell.retraining.validation_page import ValidationFacts

_ESCAPES: Final = str.maketrans({char: f"\\{char}" for char in string.punctuation})
"""CommonMark: a backslash takes its meaning from any ASCII punctuation."""

_LONGEST_TEXT: Final = 300
"""Of what a person typed; the whole of it is on the page."""


def summary_markdown(comparison: Comparison, gates: Sequence[Gate], facts: ValidationFacts) -> str:
    """Returns the summary of a candidate's validation, in Markdown with tables.

    Args:
        comparison: The candidate beside the champion, or alone.
        gates: As judged of this comparison.
        facts: Where the candidate comes from.
    """
    parts = [_verdict(comparison, gates), _origin(comparison, facts)]
    if comparison.candidate:
        parts += [_figures(comparison), _changes(comparison)]
    parts += [_gates(gates)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(comparison: Comparison, gates: Sequence[Gate]) -> str:
    failed = [gate for gate in gates if not gate.passed]
    name = f"`{comparison.candidate_id[:12]}`"
    if comparison.candidate:
        name = f"{_text(comparison.candidate.variant)} {name}"
    if passed(gates):
        return f"### ✓ {name} passed all {len(gates)} gates"
    reasons = "\n".join(f"- {gate.reason}" for gate in failed)
    return f"### ✗ {name} is refused: {len(failed)} of {len(gates)} gates failed\n\n{reasons}"


def _origin(comparison: Comparison, facts: ValidationFacts) -> str:
    champion = comparison.champion
    beside = f"champion {_text(champion.variant)} `{champion.model_id[:12]}`" if champion else "no champion"
    return (
        f"Judged on {comparison.n_cells:,} hold-out cells of {comparison.n_patients:,} patients beside {beside}. "
        f"Asked for by {_text(facts.requested_by)}: {_text(facts.reason)}. Data set `{facts.dataset_digest[:12]}`."
    )


def _figures(comparison: Comparison) -> str:
    models = [model for model in (comparison.candidate, comparison.champion) if model]
    found = comparison.difference
    differences = [
        wording.difference(found.accuracy),
        wording.difference(found.macro_f1),
        "",
        wording.difference(found.unclassified),
        wording.points(models[0].calibration_error - models[-1].calibration_error, 2),
        "",
    ] if found else None  # fmt: skip
    columns = [_column(model) for model in models]
    names = (
        "Accuracy",
        "Macro F1",
        "Right among called",
        "Unclassified",
        "Calibration error",
        "Out of scope held back",
    )
    header = ["", *(model.role for model in models), *(["difference, points"] if differences else [])]
    rows = [
        [name, *(column[i] for column in columns), *([differences[i]] if differences else [])]
        for i, name in enumerate(names)
    ]
    return _table(header, rows)


def _column(model: ModelFigures) -> list[str]:
    return [
        wording.share(model.accuracy),
        wording.index(model.macro_f1),
        wording.share(model.covered_accuracy),
        wording.share(model.unclassified),
        wording.percent(model.calibration_error, 2),
        wording.share(model.outside.unclassified),
    ]


def _changes(comparison: Comparison) -> str:
    """What would change for the cells of the hold-out."""
    if comparison.difference is None:
        return ""
    classes = {each.cell_class: each for each in comparison.difference.classes}
    lines = [
        f"- {CLASS_NAMES[cell_class]}: {_gain(-each.n_net_lost)} of {each.n_true:,} "
        f"({each.n_won:,} won, {each.n_lost:,} lost)"
        for cell_class, each in ((cell_class, classes[cell_class]) for cell_class in REPORT_ORDER)
        if each.n_won or each.n_lost
    ]
    return "\n".join(["**What changes.** " + wording.mcnemar(comparison), "", *lines])


def _gain(n: int) -> str:
    return f"{n:,} more right" if n > 0 else f"{-n:,} fewer right" if n < 0 else "as many right"


def _gates(gates: Sequence[Gate]) -> str:
    rows = [
        [
            "✓" if gate.passed else "**✗**",
            GATE_TITLES.get(gate.gate, gate.gate),
            wording.gate_value(gate, gate.measured),
            wording.gate_value(gate, gate.limit),
        ]
        for gate in gates
    ]
    return _table(["", "Gate", "measured", "limit"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: str) -> str:
    """Text that a person typed, on one line, with nothing in it that Markdown or HTML would act on."""
    short = value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]} …"
    return visible(short.strip()).translate(_ESCAPES)
