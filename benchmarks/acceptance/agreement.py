"""A night of images that the shipped models never saw, through the real scheduler: differentials against the truth.

    python -m benchmarks.acceptance.agreement WORK [--shared ../shared] [--slides 10] [--cells 120] [--seed 1]

Prints, for every model, the share of cells that are right, and the bias and the limits of agreement of each leucocyte
class.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from benchmarks.acceptance import staged as lab
from bloodcell.cells.classes import CELL_CLASSES, CLASS_NAMES, UNCLASSIFIED
from bloodcell.evaluation.differential_agreement import slide_agreement
from bloodcell.presentation.numbers import percent
from bloodcell.registry.bundle import unseen_by
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_image_folders

NIGHT = lab.FIRST_NIGHT
CALLS = """
    SELECT variant, barcode, file_name, sha256, called_class, top_class FROM bloodcell.cell_result WHERE night = :night
    ORDER BY variant, barcode, file_name
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance.agreement", description=__doc__.split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--slides", type=int, default=10)
    parser.add_argument("--cells", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=8097)
    chosen = parser.parse_args()
    work, shared = chosen.work.resolve(), chosen.shared.resolve()
    settings = Settings(
        data_dir=work / "data",
        airflow_url=f"http://127.0.0.1:{chosen.port}",
        desk_url=f"http://127.0.0.1:{chosen.port + 1}",
        settle_s=0,
        nightly_cron="",
        retrain_cron="",
        check_cron="",
        verify_cron="",
        labels_cron="",
    )
    staged = lab.Staged(settings, shared, work)
    truth = _drop(staged, chosen.slides, chosen.cells, chosen.seed)
    with lab.system(staged) as api:
        state = lab.run_night(api, NIGHT)
        print(f"Airflow run: {state.state}")
        rows = lab.rows(staged, CALLS, night=NIGHT)
    for variant, found in groupby(rows, key=lambda row: row.variant):
        _show(variant, list(found), truth)


def _drop(staged: lab.Staged, slides: int, cells: int, seed: int) -> dict[tuple[str, str], str]:
    """Writes the night of unseen images; returns the true class of every cell by slide and file name."""
    drops, images, made = staged.settings.drops, staged.work / "unseen", staged.work / "made"
    truth = drops / f"{NIGHT}.truth.csv"
    if not (drops / NIGHT.isoformat()).exists():
        shutil.rmtree(images, ignore_errors=True)
        pool = read_image_folders(staged.settings, staged.shared / "pbc").images
        for image in unseen_by(shipped_bundles(), pool):
            (images / image.cell_class).mkdir(parents=True, exist_ok=True)
            (images / image.cell_class / image.path.name).symlink_to(image.path)
        command = [sys.executable, str(staged.shared / "tools" / "make_drop.py"), str(made), "--images", str(images)]
        numbers = ["--night", NIGHT.isoformat(), "--slides", str(slides), "--cells", str(cells), "--seed", str(seed)]
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run([*command, *numbers], check=True, capture_output=True)
        drops.mkdir(parents=True, exist_ok=True)
        (made / truth.name).rename(truth)
        (made / NIGHT.isoformat()).rename(drops / NIGHT.isoformat())
    with truth.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"]]  # a slide may have an image that another has
    places = [row["path"].split("/") for row in rows]
    return {(barcode, name): row["class"] for row, (_, barcode, name) in zip(rows, places, strict=True)}


def _show(variant: str, rows: list[sa.Row[*tuple[Any, ...]]], truth: dict[tuple[str, str], str]) -> None:
    number = {name: place for place, name in enumerate(CELL_CLASSES)}
    slides = np.unique([row.barcode for row in rows], return_inverse=True)[1]
    true = np.array([number[truth[row.barcode, row.file_name]] for row in rows])
    top = np.array([number[row.top_class] for row in rows])
    unclassified = np.array([row.called_class == UNCLASSIFIED for row in rows])
    right = top == true
    found = slide_agreement(slides, true, top, unclassified)
    n_images = len({row.sha256 for row in rows})
    table = Table(
        "Class", "bias, points", "95 % limits of agreement",
        title=f"{variant}: {len(rows):,} cells of {n_images:,} images, {percent(right.mean(), 2)} right, "
        f"{percent(unclassified.mean(), 2)} unclassified, "
        f"{percent(right[~unclassified].mean(), 2)} right among the called; {found.n_slides} slides",
    )  # fmt: skip
    for cell_class in found.classes:
        assert cell_class.bias is not None
        table.add_row(
            CLASS_NAMES[cell_class.cell_class],
            f"{cell_class.bias:+.2f}",
            f"{cell_class.lower:+.2f} to {cell_class.upper:+.2f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
