"""RESULTS.md and its plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.accuracy.measuring import Found
from bloodcell.cells.classes import REPORT_ORDER
from bloodcell.cells.intervals import Proportion
from bloodcell.evaluation.call_evaluation import Evaluation
from bloodcell.evaluation.evaluation_plots import write_plots
from bloodcell.presentation.markdown import Markdown, markdown_table
from bloodcell.presentation.numbers import NOTHING, number, percent, percent_with_interval
from bloodcell.registry.bundle import Bundle

STUDY = {"vgg16_svm": "86", "inception_v3_svm": "90", "vgg16": "96", "inception_v3": "95"}
"""Test accuracy in percent. Source: Acevedo et al. 2019, Comput Methods Programs Biomed 180:105020, abstract."""

_COLOURS = ("#5b3f8c", "#c2527a", "#2f7f79", "#c98a2b", "#1c2230")


def table_of_the_study(figures: dict[str, Evaluation]) -> list[str]:
    """Returns the study's accuracies and ours, one row per variant."""
    rows = [
        [
            name,
            f"{STUDY[name]} %" if name in STUDY else NOTHING,
            percent_with_interval(one.accuracy),
            number(one.macro_f1, 3),
            percent(one.calibration_error),
            percent_with_interval(one.unclassified),
            percent_with_interval(one.covered_accuracy),
            percent(min(cell_class.sensitivity.value or 0 for cell_class in one.classes)),
        ]
        for name, one in figures.items()
    ]
    head = ["variant", "study", "accuracy", "macro F1", "calibration error", "unclassified", "correct among the called",
            "lowest sensitivity"]  # fmt: skip
    return _table(head, rows)


def table_of_classes(figures: dict[str, Evaluation]) -> list[str]:
    """Returns sensitivity, precision and specificity of each class."""
    lines: list[str] = []
    for what in ("sensitivity", "precision", "specificity"):
        rows = [
            [
                cell_class,
                *(percent_with_interval(getattr(_of_class(one, cell_class), what)) for one in figures.values()),
            ]
            for cell_class in REPORT_ORDER
        ]
        lines += [f"**{what.capitalize()}**", "", *_table([what, *figures], rows), ""]
    return lines


def table_of_shifts(shifted: dict[tuple[str, str], dict[str, Evaluation]], names: dict[str, str]) -> list[str]:
    """Returns the accuracy under each shift, of all cells and of the called ones."""
    rows = [
        [
            f"{kind} {strength}".strip(),
            *(
                f"{_percent(each.accuracy)} ({_percent(each.covered_accuracy)} of {_percent(each.coverage, 0)})"
                for each in (of_models[model_id] for model_id in names)
            ),
        ]
        for (kind, strength), of_models in shifted.items()
    ]
    return _table(["shift", *names.values()], rows)


def table_of_unknown(found: dict[str, dict[str, Found]], names: dict[str, str]) -> list[str]:
    """Returns, for each kind of unknown image, AUROC and the shares above the threshold and without a call."""

    def cell(one: Found | None) -> str:
        if one is None:
            return "-"
        share = f"{number(one.auroc, 3)}, {percent(one.above, 0)}"
        return share if one.unclassified is None else f"{share}, {percent(one.unclassified, 0)}"

    rows = [[what, *(cell(of_models.get(model_id)) for model_id in names)] for what, of_models in found.items()]
    return _table(["unknown", *names.values()], rows)


def plot_shifts(path: Path, shifted: dict[tuple[str, str], dict[str, Evaluation]], names: dict[str, str]) -> None:
    """Writes the accuracy under every shift, one line per model."""
    figure = Figure(figsize=(13, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    labels = [f"{kind} {strength}".strip() for kind, strength in shifted]
    for (model_id, name), colour in zip(names.items(), _COLOURS, strict=False):
        accuracy = [100 * (of_models[model_id].accuracy.value or 0) for of_models in shifted.values()]
        axes.plot(labels, accuracy, "o-", color=colour, linewidth=1, markersize=4, label=name)
    axes.set_ylabel("accuracy, %")
    axes.tick_params(axis="x", rotation=60)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
    axes.grid(color="#eceef3")
    axes.legend(frameon=False)
    figure.savefig(path)


def plot_unknown(path: Path, found: dict[str, dict[str, Found]], names: dict[str, str]) -> None:
    """Writes AUROC for every kind of unknown image, one row per kind."""
    figure = Figure(figsize=(9, 0.45 * len(found) + 1.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    kinds = list(found)[::-1]
    for (model_id, name), colour in zip(names.items(), _COLOURS, strict=False):
        known = [kind for kind in kinds if model_id in found[kind]]
        axes.plot([found[kind][model_id].auroc for kind in known], known, "o", color=colour, label=name)
    axes.axvline(0.5, color="#aab1bf", linestyle="--", linewidth=1)
    axes.set(xlim=(0.4, 1.01), xlabel="area under the ROC curve of the novelty score")
    axes.grid(color="#eceef3")
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path)


def plot_confusions(folder: Path, figures: dict[str, Evaluation]) -> list[str]:
    """Writes a confusion matrix and a reliability diagram for each model; returns the Markdown that shows them."""
    lines = []
    for name, one in figures.items():
        path = folder / f"{name}.png"
        write_plots(one, path, title=f"{name}: {one.n_cells:,} held-out images")
        lines.append(f"![Calls of {name}, and its confidence against its accuracy](figures/{path.name})")
    return lines


def names_of(bundles: Sequence[Bundle]) -> dict[str, str]:
    """Returns model id -> variant."""
    return {bundle.model_id: bundle.manifest.variant for bundle in bundles}


def _of_class(evaluation: Evaluation, cell_class: str) -> object:
    return next(each for each in evaluation.classes if each.cell_class == cell_class)


def _percent(share: Proportion, digits: int = 1) -> str:
    return number(share.percentage, digits)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = [Markdown(name) for name in head]
    cells = [[Markdown(cell) for cell in row] for row in rows]
    return markdown_table(names, cells, right=range(1, len(names))).splitlines()
