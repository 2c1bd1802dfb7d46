"""An evaluation on a terminal, and as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from bloodcell.cells.classes import CELL_CLASSES, REPORT_ORDER
from bloodcell.presentation.json_documents import proportion_json
from bloodcell.presentation.numbers import counted, number, percent, percent_with_interval
from bloodcell.presentation.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from bloodcell.cells.intervals import Proportion
    from bloodcell.evaluation.bundle_evaluation import BundleEvaluation
    from bloodcell.evaluation.call_evaluation import Evaluation


def evaluation_tables(evaluated: BundleEvaluation) -> RenderableType:
    """Returns the overall figures, those of each class, and the confusion matrix of the calls."""
    evaluation = evaluated.evaluation
    lines = [
        Text.from_markup(
            f"[bold]{evaluated.variant}[/] {evaluated.model_id[:12]}  [dim]{evaluation.n_cells:,} cells[/]"
        ),
        *_warnings(evaluated),
        Text(
            f"accuracy {percent_with_interval(evaluation.accuracy)}, macro F1 {number(evaluation.macro_f1, 3)}, "
            f"balanced accuracy {percent(evaluation.balanced_accuracy)} (each cell given its most probable class)"
        ),
        Text(
            f"called {percent_with_interval(evaluation.coverage)}, "
            f"correct among the called {percent_with_interval(evaluation.covered_accuracy)}, "
            f"unclassified {evaluation.unclassified.n:,}"
        ),
        Text(
            f"calibration error {percent(evaluation.calibration_error)}, "
            f"negative log-likelihood {number(evaluation.negative_log_likelihood, 3)}"
        ),
        Text(""),
    ]
    return Group(*lines, _class_table(evaluation), Text(""), _confusion_table(evaluation))


def evaluation_json(evaluated: BundleEvaluation) -> dict[str, object]:
    """Returns the evaluation as one JSON document; shares are in percent with 95 % intervals, F1 in 0..1."""
    evaluation = evaluated.evaluation
    return {
        "model_id": evaluated.model_id,
        "variant": evaluated.variant,
        "dataset_digest": evaluated.dataset_digest,
        "n_broken": evaluated.n_broken,
        "n_seen": evaluated.n_seen,
        "n_cells": evaluation.n_cells,
        "accuracy": proportion_json(evaluation.accuracy),
        "macro_f1": evaluation.macro_f1,
        "balanced_accuracy_percentage": 100 * evaluation.balanced_accuracy,
        "covered_accuracy": proportion_json(evaluation.covered_accuracy),
        "coverage": proportion_json(evaluation.coverage),
        "unclassified": proportion_json(evaluation.unclassified),
        "calibration_error_percentage": 100 * evaluation.calibration_error,
        "negative_log_likelihood": evaluation.negative_log_likelihood,
        "classes": [
            {
                "class": figures.cell_class,
                "n_true": figures.n_true,
                "precision": proportion_json(figures.precision),
                "sensitivity": proportion_json(figures.sensitivity),
                "specificity": proportion_json(figures.specificity),
                "f1": figures.f1,
                "called_sensitivity": proportion_json(figures.called_sensitivity),
                "n_unclassified": figures.n_unclassified,
            }
            for figures in evaluation.classes
        ],
        "confusion": {
            "classes": list(CELL_CLASSES),
            "most_probable": [list(row) for row in evaluation.confusion],
            "called_then_unclassified": [list(row) for row in evaluation.called_confusion],
        },
        "reliability": [
            {"confidence_percentage": 100 * each.confidence, "accuracy": proportion_json(each.accuracy)}
            for each in evaluation.bins
        ],
    }


def _warnings(evaluated: BundleEvaluation) -> list[Text]:
    warnings = []
    if evaluated.n_seen:
        warnings.append(
            f"The model was trained or validated on {evaluated.n_seen:,} of these images, so the figures are too good. "
            "Leave these images out with --unseen."
        )
    if evaluated.n_broken:
        warnings.append(f"Left out: {counted(evaluated.n_broken, 'file')} in the folder cannot be decoded.")
    return [Text(f"! {warning}", style="bold yellow") for warning in warnings]


def _class_table(evaluation: Evaluation) -> Table:
    names = ("cells", "sensitivity %", "precision %", "specificity %", "F1")
    table = plain_table("", *names, right=names)
    figures_of = {figures.cell_class: figures for figures in evaluation.classes}
    for cell_class in REPORT_ORDER:
        figures = figures_of[cell_class]
        table.add_row(
            cell_class,
            f"{figures.n_true:,}",
            _dense(figures.sensitivity),
            _dense(figures.precision),
            _dense(figures.specificity),
            number(figures.f1, 3),
        )
    return table


def _confusion_table(evaluation: Evaluation) -> Table:
    names = [name[:5] for name in (*REPORT_ORDER, "none")]
    table = plain_table("is \\ called", *names, right=names)
    for cell_class in REPORT_ORDER:
        counts = evaluation.called_confusion[CELL_CLASSES.index(cell_class)]
        row = []
        for other in REPORT_ORDER:
            n = counts[CELL_CLASSES.index(other)]
            row.append(Text(f"{n:,}" if n else "·", style="bold" if other == cell_class else "red" if n else "dim"))
        table.add_row(cell_class, *row, Text(f"{counts[-1]:,}" if counts[-1] else "·", style="yellow"))
    return table


def _dense(share: Proportion) -> str:
    """Returns percentage and interval without percent signs, and 100 without a decimal, to fit 80 columns."""
    return percent_with_interval(share).replace(" %", "").replace("100.0", "100")
