"""The tables of the model card: each class as it is called, and how far a call can be trusted on a usual night.

    bloodcell evaluate --images FOLDER --unseen --bundle bloodcell/shipped/vgg16 --json > vgg16.json
    python -m benchmarks.accuracy.predictive_values vgg16.json [...]

The evaluation images have about as many cells of each class, and no night has. Precision depends on that mix: 3 of 149
neutrophils called ig matter little beside 131 cells of ig, and much where one cell in 200 is. So the shares called are
taken from the evaluation, class by class, and weighted by the mix of a night. Writes Markdown to standard output.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import gamma

from bloodcell.cells.classes import CELL_CLASSES, REPORT_ORDER
from bloodcell.cells.intervals import CONFIDENCE, proportion
from bloodcell.differential.laboratory_rules import LaboratoryRules, read_rules
from bloodcell.presentation.markdown import Markdown, markdown_table
from bloodcell.presentation.numbers import NOTHING, interval, percent, percent_with_interval

_TAIL: Final = (1 - CONFIDENCE) / 2
UNCLASSIFIED_COLUMN: Final = len(CELL_CLASSES)


@dataclass(frozen=True)
class Trust:
    """How far the calls of a class can be trusted.

    Attributes:
        cell_class: The class called.
        value: Of the cells called it, the share that are of it: the positive predictive value.
        lower: Its lower end.
        upper: Its upper end.
    """

    cell_class: str
    value: float
    lower: float
    upper: float


def usual_mix(rules: LaboratoryRules) -> dict[str, float]:
    """Returns class -> its share of the cells on a slide of an adult, summing to 1.

    Leucocytes: the middles of the adults' reference ranges. Erythroblasts: as many as the rules name a slide for.
    Platelets: none, as analysers image them apart from the leucocytes.
    """
    ranges = rules.ranges_for(None, None)
    middles = {name: (each.low + each.high) / 2 for name, each in ranges.items()}
    leucocytes = sum(middles.values())
    mix = {name: middle / leucocytes for name, middle in middles.items()}
    mix["erythroblast"] = rules.review.nrbc.per_100_wbc_at_least / 100
    return {name: mix.get(name, 0.0) / sum(mix.values()) for name in CELL_CLASSES}


def trust(called: np.ndarray, mix: dict[str, float]) -> list[Trust]:
    """Returns the predictive value of each class of the mix.

    The intervals are cautious: the lower end has few right calls and many wrong ones at the same time, the upper end
    the opposite. Right calls: Clopper and Pearson. Wrong calls, a weighted sum over the other classes: Fay and Feuer
    1997, Confidence intervals for directly standardized rates, Statistics in Medicine 16:791-801.

    Args:
        called: int (8, 9), cells by true class and call, in the order of `CELL_CLASSES`; last column: unclassified.
        mix: Class -> share.
    """
    n_true, shares = called.sum(axis=1), np.array([mix[name] for name in CELL_CLASSES])
    found = []
    for index, cell_class in enumerate(CELL_CLASSES):
        if shares[index] == 0:
            continue
        right = proportion(int(called[index, index]), int(n_true[index]))
        others = np.arange(len(CELL_CLASSES)) != index
        value, lower, upper = _weighted(called[others, index], shares[others] / n_true[others])
        found.append(
            Trust(
                cell_class,
                _share(shares[index] * (right.value or 0), value),
                _share(shares[index] * (right.lower or 0), upper),
                _share(shares[index] * (right.upper or 0), lower),
            )
        )
    return found


def _weighted(counts: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Returns the sum of counts times weights, and the ends of its interval."""
    value, variance, largest = float(counts @ weights), float(counts @ weights**2), float(weights.max())
    lower = float(gamma.ppf(_TAIL, value**2 / variance, scale=variance / value)) if value else 0.0
    more, wider = value + largest, variance + largest**2
    return value, lower, float(gamma.ppf(1 - _TAIL, more**2 / wider, scale=wider / more))


def _share(right: float, wrong: float) -> float:
    return right / (right + wrong) if right + wrong else 0.0


def class_table(called: np.ndarray) -> str:
    """Returns each class as it is called, with exact 95 % intervals."""
    rows = []
    for cell_class in REPORT_ORDER:
        index = CELL_CLASSES.index(cell_class)
        n, right, unclassified = int(called[index].sum()), int(called[index, index]), int(called[index, -1])
        wrong = {CELL_CLASSES[other]: int(called[index, other]) for other in range(len(CELL_CLASSES)) if other != index}
        rows.append([
            cell_class,
            str(n),
            percent_with_interval(proportion(right, n - unclassified)),
            percent_with_interval(proportion(right, int(called[:, index].sum()))),
            f"{unclassified}: {percent_with_interval(proportion(unclassified, n))}",
            ", ".join(f"{count} {other}" for other, count in wrong.items() if count) or NOTHING,
        ])  # fmt: skip
    return _table(["class", "cells", "sensitivity", "precision", "unclassified", "called wrongly"], rows, n_left=1)


def trust_table(called: dict[str, np.ndarray], mix: dict[str, float]) -> str:
    """Returns the predictive values of several models, one row per class."""
    found = {name: {each.cell_class: each for each in trust(counts, mix)} for name, counts in called.items()}
    rows = [
        [
            cell_class,
            percent(mix[cell_class]),
            *(
                f"{percent(each.value)} ({interval((100 * each.lower, 100 * each.upper))})"
                for each in (of_model[cell_class] for of_model in found.values())
            ),
        ]
        for cell_class in REPORT_ORDER
        if mix[cell_class]
    ]
    for name, share in (("correct among the called", _correct_among_called), ("unclassified", _unclassified)):
        rows.append([name, "", *(percent(share(counts, mix)) for counts in called.values())])
    return _table(["class", "share of the cells", *called], rows)


def _rates(called: np.ndarray, mix: dict[str, float]) -> np.ndarray:
    """Returns the share of a night's cells with each true class and call, summing to 1."""
    shares = np.array([mix[name] for name in CELL_CLASSES])[:, None]
    return np.asarray(shares * called / called.sum(axis=1, keepdims=True))


def _correct_among_called(called: np.ndarray, mix: dict[str, float]) -> float:
    rates = _rates(called, mix)[:, :UNCLASSIFIED_COLUMN]
    return float(np.trace(rates) / rates.sum())


def _unclassified(called: np.ndarray, mix: dict[str, float]) -> float:
    return float(_rates(called, mix)[:, UNCLASSIFIED_COLUMN].sum())


def _table(head: list[str], rows: list[list[str]], *, n_left: int = 0) -> str:
    cells = [[Markdown(cell) for cell in row] for row in rows]
    return markdown_table([Markdown(name) for name in head], cells, right=range(1, len(head) - n_left))


def _confusion(evaluation: dict[str, Any]) -> np.ndarray:
    confusion = evaluation["confusion"]
    if confusion["classes"] != list(CELL_CLASSES):
        raise ValueError(f"Expected the classes {list(CELL_CLASSES)}. Received: {confusion['classes']}")
    return np.array(confusion["called_then_unclassified"])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.predictive_values", description=__doc__.split("\n")[0]
    )
    parser.add_argument("evaluations", type=Path, nargs="+", help="what `bloodcell evaluate --json` wrote")
    chosen = parser.parse_args()
    evaluations = [each for path in chosen.evaluations for each in json.loads(path.read_text())]
    called = {each["variant"]: _confusion(each) for each in evaluations}
    for each in evaluations:
        print(f"**`{each['variant']}`** `{each['model_id'][:12]}`, {each['n_cells']:,} cells\n")
        print(class_table(called[each["variant"]]) + "\n")
    print("**Predictive values**\n")
    print(trust_table(called, usual_mix(read_rules(None))))


if __name__ == "__main__":
    main()
