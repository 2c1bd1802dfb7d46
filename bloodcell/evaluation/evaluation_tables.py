"""An evaluation on a terminal, and as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bloodcell.cells.classes import CELL_CLASSES, REPORT_ORDER

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bloodcell.cells.intervals import Proportion
    from bloodcell.evaluation.evaluating import BundleEvaluation
    from bloodcell.evaluation.metrics import Evaluation


def evaluation_tables(evaluated: BundleEvaluation) -> RenderableType:
    """Returns headline figures, the groups' figures and the confusion matrix of the calls."""
    evaluation = evaluated.evaluation
    lines = [
        Text.from_markup(
            f"[bold]{evaluated.variant}[/] {evaluated.model_id[:12]}  [dim]{evaluation.n_cells:,} cells[/]"
        ),
        *_warnings(evaluated),
        Text(
            f"accuracy {_percent(evaluation.accuracy)}, macro F1 {evaluation.macro_f1:.3f}, "
            f"balanced accuracy {100 * evaluation.balanced_accuracy:.1f} % (each cell given its most probable group)"
        ),
        Text(
            f"called {_percent(evaluation.coverage)}, right among the called {_percent(evaluation.covered_accuracy)}, "
            f"unclassified {evaluation.unclassified.n:,}"
        ),
        Text(
            f"calibration error {100 * evaluation.calibration_error:.1f} %, "
            f"negative log-likelihood {evaluation.negative_log_likelihood:.3f}"
        ),
        Text(""),
    ]
    return Group(*lines, _group_table(evaluation), Text(""), _confusion_table(evaluation))


def evaluation_json(evaluated: BundleEvaluation) -> dict[str, object]:
    """Returns the evaluation as one JSON document; shares in 0..1, limits of 95 %."""
    evaluation = evaluated.evaluation
    return {
        "model_id": evaluated.model_id,
        "variant": evaluated.variant,
        "dataset_digest": evaluated.dataset_digest,
        "n_broken": evaluated.n_broken,
        "n_seen": evaluated.n_seen,
        "n_cells": evaluation.n_cells,
        "accuracy": _proportion_json(evaluation.accuracy),
        "macro_f1": evaluation.macro_f1,
        "balanced_accuracy": evaluation.balanced_accuracy,
        "covered_accuracy": _proportion_json(evaluation.covered_accuracy),
        "coverage": _proportion_json(evaluation.coverage),
        "unclassified": _proportion_json(evaluation.unclassified),
        "calibration_error": evaluation.calibration_error,
        "negative_log_likelihood": evaluation.negative_log_likelihood,
        "groups": [
            {
                "group": figures.cell_class,
                "n_true": figures.n_true,
                "precision": _proportion_json(figures.precision),
                "sensitivity": _proportion_json(figures.sensitivity),
                "specificity": _proportion_json(figures.specificity),
                "f1": figures.f1,
                "called_sensitivity": _proportion_json(figures.called_sensitivity),
                "n_unclassified": figures.n_unclassified,
            }
            for figures in evaluation.classes
        ],
        "confusion": {
            "groups": list(CELL_CLASSES),
            "most_probable": [list(row) for row in evaluation.confusion],
            "called_then_unclassified": [list(row) for row in evaluation.called_confusion],
        },
        "reliability": [
            {"confidence": each.confidence, "accuracy": _proportion_json(each.accuracy)} for each in evaluation.bins
        ],
    }


def _warnings(evaluated: BundleEvaluation) -> list[Text]:
    warnings = []
    if evaluated.n_seen:
        warnings.append(
            f"{evaluated.n_seen:,} of these images the model was trained or validated with: the figures flatter it. "
            "Leave them out with --unseen."
        )
    if evaluated.n_broken:
        warnings.append(f"{evaluated.n_broken} files of the folder cannot be decoded and are not counted.")
    return [Text(f"! {warning}", style="bold yellow") for warning in warnings]


def _group_table(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    for name in ("cells", "sensitivity %", "precision %", "specificity %", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    figures_of = {figures.cell_class: figures for figures in evaluation.classes}
    for cell_class in REPORT_ORDER:
        figures = figures_of[cell_class]
        table.add_row(
            cell_class,
            f"{figures.n_true:,}",
            _share(figures.sensitivity),
            _share(figures.precision),
            _share(figures.specificity),
            f"{figures.f1:.3f}",
        )
    return table


def _confusion_table(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("is \\ called", no_wrap=True)
    for cell_class in (*REPORT_ORDER, "none"):
        table.add_column(cell_class[:5], justify="right", no_wrap=True)
    for cell_class in REPORT_ORDER:
        counts = evaluation.called_confusion[CELL_CLASSES.index(cell_class)]
        row = []
        for other in REPORT_ORDER:
            n = counts[CELL_CLASSES.index(other)]
            row.append(Text(f"{n:,}" if n else "·", style="bold" if other == cell_class else "red" if n else "dim"))
        table.add_row(cell_class, *row, Text(f"{counts[-1]:,}" if counts[-1] else "·", style="yellow"))
    return table


def _percent(share: Proportion) -> str:
    return _share(share).replace(" ", " % ", 1)


def _share(share: Proportion) -> str:
    """Percentage and its limits: 92.0 (84.8-96.5)."""
    if share.percentage is None or share.percentage_limits is None:
        return "-"
    value, lower, upper = (
        f"{part:.1f}".replace("100.0", "100") for part in (share.percentage, *share.percentage_limits)
    )
    return f"{value} ({lower}-{upper})"


def _proportion_json(share: Proportion) -> dict[str, object]:
    return {"n": share.n, "of": share.total, "value": share.value, "lower_95": share.lower, "upper_95": share.upper}
