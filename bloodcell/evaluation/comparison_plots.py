"""The plots of a comparison as PNG; the same comparison always gives the same bytes.

The candidate is blue and the champion orange, colours that people with colour blindness can tell apart; each has its
own marker, so that a black-and-white print is readable, too.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from bloodcell.cells.classes import CLASS_NAMES, REPORT_ORDER
from bloodcell.evaluation.evaluation_plots import draw_confusion, draw_reliability
from bloodcell.presentation.numbers import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bloodcell.evaluation.comparison_records import Comparison, Difference, ModelFigures
    from bloodcell.evaluation.differential_agreement import ClassAgreement
    from bloodcell.evaluation.patient_intervals import Interval

COLOURS: Final = {"candidate": "#0072b2", "champion": "#d55e00"}
"""Source: Okabe and Ito, Color universal design, 2008."""

ROLE_NAMES: Final = {"candidate": "candidate", "champion": "champion"}
"""What a panel is called by the role of its model."""

_MARKERS: Final = {"candidate": "o", "champion": "x"}
_INK: Final = "#1c2230"
_MUTED: Final = "#8b93a3"
_GRID: Final = "#e6e9ef"
_DPI: Final = 160


def confusion_plot(comparison: Comparison, names: Mapping[str, str] = ROLE_NAMES) -> bytes:
    """Returns the confusion matrices of the calls, of candidate and champion."""
    figure, panels = _side_by_side(comparison, 6.4, 5.6)
    for axes, model in panels:
        draw_confusion(axes, model.evaluation)
        _title(axes, f"{names[model.role]}: {model.variant}")
    return _png(figure)


def reliability_plot(comparison: Comparison, names: Mapping[str, str] = ROLE_NAMES) -> bytes:
    """Returns the reliability diagrams of candidate and champion."""
    figure, panels = _side_by_side(comparison, 4.6, 4.8)
    for axes, model in panels:
        draw_reliability(axes, model.evaluation)
        _title(axes, f"{names[model.role]}: calibration error {percent(model.calibration.value, 2)}")
    return _png(figure)


def novelty_plot(comparison: Comparison, names: Mapping[str, str] = ROLE_NAMES) -> bytes:
    """Returns novelty histograms of candidate and champion: cells in scope upwards, cells out of scope downwards."""
    figure, panels = _side_by_side(comparison, 5.75, 3.9)
    for axes, model in panels:
        found = model.out_of_scope
        edges = np.array(found.edges)
        for counts, sign, colour, name in (
            (found.holdout, 1, "#56b4e9", "in scope"),
            (found.out_of_scope, -1, "#5b3f8c", "out of scope"),
        ):
            shares = sign * 100 * np.array(counts) / max(sum(counts), 1)
            axes.stairs(shares, edges, fill=True, color=colour, label=f"{name} ({sum(counts):,})")
        if found.novelty_threshold is not None and np.isfinite(found.novelty_threshold):
            axes.axvline(found.novelty_threshold, color=_INK, linestyle="--", linewidth=1.2, label="unclassified above")
        axes.axhline(0, color=_INK, linewidth=0.8)
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.set_xlabel("novelty (the last bin includes all above)")
        axes.set_ylabel("% of the cells of each kind")
        axes.legend(fontsize=8, frameon=False)
        _title(axes, f"{names[model.role]}: {model.variant}")
        _plain(axes, grid="y")
    return _png(figure)


def forest_plot(difference: Difference, *, accuracy_threshold: float | None) -> bytes:
    """Returns candidate minus champion with 95 % intervals: accuracy, macro F1, and each class's sensitivity.

    Args:
        difference: What to draw, as fractions; the plot is in points.
        accuracy_threshold: Threshold of the gate on accuracy, in -1..1; None: not drawn.
    """
    classes = {each.cell_class: each for each in difference.classes}
    rows: list[tuple[str, Interval | None]] = [("Accuracy", difference.accuracy), ("Macro F1", difference.macro_f1)]
    rows += [
        (f"{CLASS_NAMES[cell_class]} ({classes[cell_class].n_true:,})", classes[cell_class].sensitivity)
        for cell_class in REPORT_ORDER
    ]
    figure = _figure(9.5, 0.32 * len(rows) + 1.3)
    axes = figure.subplots()
    axes.axvline(0, color=_INK, linewidth=1)
    for row, (_, found) in enumerate(rows):
        if found is None:
            axes.text(0, row, " no cells", va="center", color=_MUTED, fontsize=9)
            continue
        value, lower, upper = (100 * part for part in (found.value, found.lower, found.upper))
        axes.plot([lower, upper], [row, row], color=COLOURS["candidate"], linewidth=2 if row < 2 else 1.4)
        axes.plot(value, row, "D" if row < 2 else "o", color=COLOURS["candidate"], markersize=7 if row < 2 else 5)
    if accuracy_threshold is not None:
        at = 100 * accuracy_threshold
        axes.plot([at, at], [-0.45, 0.45], color=COLOURS["champion"], linewidth=2.5)
        axes.text(at, -0.6, "gate", ha="center", va="bottom", fontsize=8, color=COLOURS["champion"])
    axes.axhline(1.5, color=_GRID, linewidth=1)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -1.1)
    left, right = axes.get_xlim()
    # zero stays visible, and the axis has some width even where nothing differs
    axes.set_xlim(min(left, -1), max(right, 1))
    axes.set_xlabel("points; candidate worse  ←  0  →  candidate better")
    _plain(axes, grid="x")
    return _png(figure)


def agreement_plot(comparison: Comparison) -> bytes:
    """Returns Bland-Altman plots: one point per slide and leucocyte class, bias and limits of agreement as lines."""
    models = _compared(comparison)
    figure = _figure(11.5, 6.6)
    for index, axes in enumerate(figure.subplots(2, 3).ravel()):
        axes.axhline(0, color=_MUTED, linewidth=0.8)
        # the champion below, so that the candidate's points are visible where both lie
        for model in reversed(models):
            _draw_agreement(axes, model.agreement.classes[index], model.role)
        _title(axes, CLASS_NAMES[models[0].agreement.classes[index].cell_class])
        _plain(axes, grid="both")
        if index >= 3:
            axes.set_xlabel("mean of calls and labels, %")
        if index % 3 == 0:
            axes.set_ylabel("calls − labels, points")
        bottom, top = axes.get_ylim()
        axes.set_ylim(min(bottom, -1), max(top, 1))
    return _png(figure)


def _compared(comparison: Comparison) -> list[ModelFigures]:
    """Returns candidate and champion; challengers are in the page's table only."""
    return [model for model in comparison.models if model.role in COLOURS]


def _side_by_side(
    comparison: Comparison, width_in: float, height_in: float
) -> tuple[Figure, list[tuple[Axes, ModelFigures]]]:
    """Returns a figure with a panel for each of candidate and champion; the width is that of one panel."""
    models = _compared(comparison)
    figure = _figure(width_in * len(models), height_in)
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    return figure, list(zip(panels, models, strict=True))


def _draw_agreement(axes: Axes, agreement: ClassAgreement, role: str) -> None:
    colour = COLOURS[role]
    axes.plot(
        agreement.means,
        agreement.differences,
        _MARKERS[role],
        color=colour,
        markersize=4.5,
        alpha=0.55,
        markeredgewidth=1.2 if role == "champion" else 0,
        rasterized=True,
    )
    if agreement.bias is not None:
        axes.axhline(agreement.bias, color=colour, linewidth=1.5)
    for end in (agreement.lower, agreement.upper):
        if end is not None:
            axes.axhline(end, color=colour, linewidth=1, linestyle=(0, (5, 3)))


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # not pyplot, which keeps state between calls and looks for a display
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title("", loc="left")
    axes.set_title(text, loc="left", fontsize=11, color=_INK)


def _plain(axes: Axes, *, grid: Literal["both", "x", "y"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=_GRID)
    axes.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    body = io.BytesIO()
    # without matplotlib's version, because an upgrade would change the bytes
    figure.savefig(body, format="png", metadata={"Software": None})
    return body.getvalue()
