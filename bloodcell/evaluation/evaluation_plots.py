"""An evaluation as one picture: the confusion matrix, and how well confidence agrees with accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES, REPORT_ORDER, UNCLASSIFIED
from bloodcell.presentation.numbers import percent

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from bloodcell.evaluation.call_evaluation import Evaluation

_STAIN: Final = "#5b3f8c"
_SHADES: Final = "Purples"
_DPI: Final = 160


def write_plots(evaluation: Evaluation, path: Path, *, title: str) -> None:
    """Writes a PNG with the confusion matrix of the calls and the reliability diagram beside it.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # a Figure without pyplot keeps no state between calls and does not look for a display
    figure = Figure(figsize=(14, 7), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    matrix, reliability = figure.subplots(1, 2, width_ratios=[1.65, 1])
    figure.suptitle(title, fontsize=14, fontweight="bold", x=0.01, ha="left")
    draw_confusion(matrix, evaluation)
    draw_reliability(reliability, evaluation)
    figure.savefig(path, format="png")


def draw_confusion(axes: Axes, evaluation: Evaluation) -> None:
    """Draws the confusion matrix of the calls: numbers of cells, and their shares of each row."""
    rows = [CELL_CLASSES.index(cell_class) for cell_class in REPORT_ORDER]
    counts = np.array(evaluation.called_confusion)[np.ix_(rows, [*rows, len(CELL_CLASSES)])]
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    axes.imshow(shares, cmap=_SHADES, vmin=0, vmax=1, aspect="auto")
    for (row, column), n in np.ndenumerate(counts):
        if n:
            axes.text(
                column,
                row,
                f"{n:,}\n{percent(shares[row, column])}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shares[row, column] > 0.5 else "#1c2230",
            )
    axes.set_xticks(range(counts.shape[1]), [*REPORT_ORDER, UNCLASSIFIED], rotation=35, ha="right")
    axes.set_yticks(
        range(len(rows)), [f"{cell_class} ({n:,})" for cell_class, n in zip(REPORT_ORDER, totals[:, 0], strict=True)]
    )
    axes.axvline(len(CELL_CLASSES) - 0.5, color="#1c2230", linewidth=1)
    axes.set_xlabel("called")
    axes.set_ylabel("true class")
    axes.set_title("Calls: cells and their share of the row", loc="left", fontsize=11)


def draw_reliability(axes: Axes, evaluation: Evaluation) -> None:
    """Draws how often predictions of a given confidence are right, with larger points for more cells."""
    axes.plot([0, 1], [0, 1], color="#aab1bf", linewidth=1, linestyle="--")
    for each in evaluation.bins:
        value, lower, upper = (part or 0.0 for part in (each.accuracy.value, each.accuracy.lower, each.accuracy.upper))
        axes.errorbar(
            each.confidence,
            value,
            yerr=[[value - lower], [upper - value]],
            fmt="o",
            markersize=4 + 10 * (each.accuracy.total / evaluation.n_cells) ** 0.5,
            color=_STAIN,
            ecolor="#8a6fbd",
            capsize=3,
        )
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="share that is right, 95 % interval")
    axes.set_aspect("equal")
    axes.grid(color="#eceef3")
    axes.set_axisbelow(True)
    axes.set_title(f"Reliability: calibration error {percent(evaluation.calibration_error)}", loc="left", fontsize=11)
