"""The tables of the model card, written by benchmarks/accuracy/predictive_values.py from an evaluation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell.cells.classes import CELL_CLASSES

ROOT = Path(__file__).parents[2]


def run(
    path: Path, *rows: tuple[str, str, int], classes: tuple[str, ...] = CELL_CLASSES
) -> subprocess.CompletedProcess[str]:
    """Writes the tables of a model that calls all of 100 cells of each class right, but for some (true, called, n)."""
    columns = [*CELL_CLASSES, "unclassified"]
    confusion = [[100 if name == true else 0 for name in columns] for true in CELL_CLASSES]
    for true, called, n in rows:
        confusion[CELL_CLASSES.index(true)][CELL_CLASSES.index(true)] -= n
        confusion[CELL_CLASSES.index(true)][columns.index(called)] += n
    document = {"classes": classes, "called_then_unclassified": confusion}
    path.write_text(json.dumps([{"variant": "vgg16", "model_id": "a" * 64, "n_cells": 800, "confusion": document}]))
    command = [sys.executable, "-m", "benchmarks.accuracy.predictive_values", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def cells_of(output: str, name: str) -> list[list[str]]:
    """The rows of all tables that begin with a name, without it."""
    return [row.strip(" |").split(" | ") for row in re.findall(rf"^\| {name} \|(.*)$", output, re.M)]


# adults' ranges: 57.5 + 2.75 + 0.5 + 28 + 6.5 + 0.45 = 95.7, and one erythroblast per 100 leucocytes
SHARES = {"neutrophil": 57.5 / 95.7 / 1.01, "ig": 0.45 / 95.7 / 1.01, "monocyte": 6.5 / 95.7 / 1.01}


def test_predictive_values_are_those_of_the_mix_of_a_night(tmp_path: Path) -> None:
    wrong = (("neutrophil", "ig", 2), ("neutrophil", "unclassified", 10), ("ig", "monocyte", 5))
    output = run(tmp_path / "evaluation.json", *wrong).stdout
    of_all_classes, at_the_mix = cells_of(output, "ig")
    assert of_all_classes[2].startswith("97.9 % (")  # precision among as many cells of each class: 95 of 97
    right, from_neutrophils = 0.95 * SHARES["ig"], 0.02 * SHARES["neutrophil"]
    assert at_the_mix[0] == "0.5 %"
    value, lower, upper = map(float, re.findall(r"[\d.]+", at_the_mix[1]))
    assert value == pytest.approx(100 * right / (right + from_neutrophils), abs=0.05)
    assert lower < value < upper
    assert cells_of(output, "unclassified")[-1][-1] == f"{100 * 0.1 * SHARES['neutrophil']:.1f} %"
    called = 1 - 0.1 * SHARES["neutrophil"]
    correct = called - from_neutrophils - 0.05 * SHARES["ig"]
    assert cells_of(output, "correct among the called")[0][-1] == f"{100 * correct / called:.1f} %"


def test_a_class_that_nothing_was_mistaken_for_is_not_certain(tmp_path: Path) -> None:
    output = run(tmp_path / "evaluation.json").stdout
    basophils = cells_of(output, "basophil")[1][1]
    value, lower, upper = map(float, re.findall(r"[\d.]+", basophils))
    assert (value, upper) == (100, 100)
    # none of 100 neutrophils, 59 % of the cells: up to 3.7 of 100 by chance, beside a basophil in 200 cells
    assert lower == pytest.approx(100 / (1 + 3.689 * 57.5 / 100 / (0.5 * 0.9638)), abs=0.1)
    assert cells_of(output, "platelet") == [
        ["100", "100.0 % (96.4–100.0)", "100.0 % (96.4–100.0)", "0: 0.0 % (0.0–3.6)", "–"]
    ]


def test_an_evaluation_of_other_classes_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path / "evaluation.json", classes=("blast", *CELL_CLASSES[1:]))
    assert refused.returncode != 0
    assert "Expected the classes" in refused.stderr
