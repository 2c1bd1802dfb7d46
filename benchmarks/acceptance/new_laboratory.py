"""A laboratory that the models do not know: report, calibration, promotion, and a night of it; calls against the truth.

    python -m benchmarks.acceptance.new_laboratory WORK EXTERNAL SOURCE [--labels 25] [--night-share 0.5]

WORK is an empty folder; EXTERNAL has manifest.csv with the columns path, source, class and slide_or_field. As a new
user would, the script runs `bloodcell up`, `site report`, `site calibrate` and `models promote`, and drops a night.
Labels are of some slides, the night has the others. Fields of one smear with few cells are put together as one slide.
If no verdict allows a model, none is promoted and the night is the shipped champion's. Prints the verdicts, and each
slide's state and calls; exit status 1 if a promotion went against a verdict, a file of the night is not accounted
for, or, with the shipped champion, a slide was not withheld.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED
from bloodcell.presentation.numbers import percent
from bloodcell.presentation.tables import boxed_table
from bloodcell.site.site_verdict import may_be_used
from tests.service.conftest import CODES, free_port

NIGHT: Final = "2026-11-27"
OUT_OF_SCOPE: Final = "ART"
LEAST_CELLS: Final = 20
"""Cells of a slide: fields with fewer are put together."""
READY_S: Final = 300.0
CALLS: Final = f"SELECT barcode, file_name, called_class FROM cell_result WHERE night = '{NIGHT}' AND is_reported"
STATES: Final = f"SELECT barcode, state, withheld_for FROM slide_summary WHERE night = '{NIGHT}' AND is_reported"
UNLIKE: Final = f"SELECT barcode FROM slide_look JOIN champion USING (model_id) WHERE night = '{NIGHT}' AND NOT passed"


@dataclass(frozen=True)
class Cell:
    """A cell of the laboratory: its file relative to EXTERNAL, its class or `out_of_scope:...`, and its slide."""

    path: str
    label: str
    slide: str


@dataclass
class User:
    """Somebody at a shell, with an installation of their own."""

    environment: dict[str, str]

    def runs(self, *arguments: str) -> str:
        """Runs a command of bloodcell and returns what it prints."""
        command = [sys.executable, "-m", "bloodcell", *arguments]
        return subprocess.run(command, env=self.environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def is_refused(self, *arguments: str) -> str:
        """Runs a command that should be refused and returns why; empty if it was not."""
        command = [sys.executable, "-m", "bloodcell", *arguments]
        done = subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True)
        return " ".join(done.stderr.split()) if done.returncode else ""

    def rows(self, statement: str) -> list[dict[str, str]]:
        """Returns the rows of an SQL statement."""
        printed = self.runs("db", "psql", "--csv", "-c", statement)
        return list(csv.DictReader(printed.splitlines()))


def cells_of(external: Path, source: str) -> list[Cell]:
    """Returns the cells of a source, with fields of few cells put together."""
    with (external / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == source]
    fields, counts = np.unique([row["slide_or_field"] for row in rows], return_counts=True)
    if np.median(counts) >= LEAST_CELLS / 4:
        return [Cell(row["path"], row["class"], row["slide_or_field"]) for row in rows]
    slide_of, n_cells, number = {}, 0, 1
    for name, count in zip(fields.tolist(), counts.tolist(), strict=True):
        if n_cells >= LEAST_CELLS:
            number, n_cells = number + 1, 0
        slide_of[name] = f"fields-{number:02}"
        n_cells += count
    return [Cell(row["path"], row["class"], slide_of[row["slide_or_field"]]) for row in rows]


def divided(cells: Sequence[Cell], night_share: float, seed: int) -> tuple[list[Cell], list[Cell]]:
    """Returns the cells of the slides for labels, and those of the night."""
    slides = np.random.default_rng(seed).permutation(sorted({cell.slide for cell in cells}))
    of_night = set(slides[: round(night_share * len(slides))].tolist())
    return [cell for cell in cells if cell.slide not in of_night], [cell for cell in cells if cell.slide in of_night]


def write_table(path: Path, external: Path, cells: Sequence[Cell], n_labels: int, seed: int) -> int:
    """Writes the CSV file of labels, at most `n_labels` of a class, the other cells without one; returns how many."""
    order = np.random.default_rng(seed).permutation(len(cells))
    left = dict.fromkeys({cell.label for cell in cells}, n_labels)
    n_written = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "class", "slide"))
        for cell in (cells[each] for each in order):
            left[cell.label] -= 1
            label = cell.label if left[cell.label] >= 0 else ""
            n_written += bool(label)
            writer.writerow((external / cell.path, label, cell.slide))
    return n_written


def write_night(drops: Path, external: Path, cells: Sequence[Cell]) -> dict[tuple[str, str], str]:
    """Writes the night; returns (barcode, file) -> what the cell is."""
    truth = {}
    for number, cell in enumerate(cells):
        folder = drops / NIGHT / cell.slide
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{CODES.get(cell.label, OUT_OF_SCOPE)}_{number}{Path(cell.path).suffix}"
        shutil.copyfile(external / cell.path, folder / name)
        truth[cell.slide, name] = cell.label
    (drops / NIGHT / ".complete").touch()
    return truth


@contextmanager
def up(work: Path) -> Iterator[User]:
    """Runs `bloodcell up` with a home of its own, and stops it at the end."""
    port, desk = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BLOODCELL_")}
    environment |= {
        "HOME": str(work / "home"),
        "BLOODCELL_DATA_DIR": str(work / "data"),
        "BLOODCELL_AIRFLOW_URL": f"http://127.0.0.1:{port}",
        "BLOODCELL_DESK_URL": f"http://127.0.0.1:{desk}",
    }
    (work / "home").mkdir(parents=True)
    printed = work / "up.txt"
    with printed.open("w") as file:
        system = subprocess.Popen(
            [sys.executable, "-m", "bloodcell", "up", "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + READY_S
        while "bloodcell is up." not in printed.read_text():
            if system.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(printed.read_text())
            time.sleep(0.5)
        yield User(environment)
    finally:
        system.terminate()
        system.wait(60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("external", type=Path)
    parser.add_argument("source")
    parser.add_argument("--labels", type=int, default=25, help="of each class, at most")
    parser.add_argument("--night-share", type=float, default=0.5, help="of the slides")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    work, external = chosen.work.resolve(), chosen.external.resolve()
    for_labels, of_night = divided(cells_of(external, chosen.source), chosen.night_share, chosen.seed)
    work.mkdir(parents=True, exist_ok=True)
    table = work / "labels.csv"
    n_labels = write_table(table, external, for_labels, chosen.labels, chosen.seed)
    print(f"{n_labels} labels of {len({c.slide for c in for_labels})} slides; {len(of_night)} cells of "
          f"{len({c.slide for c in of_night})} slides in the night")  # fmt: skip
    with up(work) as user:
        site = ("--images", str(external), "--table", str(table), "--name", chosen.source)
        timed("site report", user, "site", "report", *site, "--html", str(work / "site.html"))
        printed = timed("site calibrate", user, "site", "calibrate", *site, "--json")
        (work / "calibrated.json").write_text(printed)
        shipped = champion(user)
        claims = promoted(user, json.loads(printed))
        truth = write_night(Path(user.environment["BLOODCELL_DATA_DIR"]) / "drops", external, of_night)
        wait_for(user, len({c.slide for c in of_night}))
        claims |= show_night(user, truth, calibrated=champion(user) != shipped)
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'DOES NOT HOLD'}: {claim}")
    return 0 if all(claims.values()) else 1


def timed(what: str, user: User, *arguments: str) -> str:
    started = time.monotonic()
    printed = user.runs(*arguments)
    print(f"{time.monotonic() - started:6.0f} s  {what}", flush=True)
    return printed


def champion(user: User) -> str:
    return user.rows("SELECT model_id FROM champion")[0]["model_id"]


def promoted(user: User, models: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Tries to promote a model that must not be used, then the last one that may; returns the claims.

    The last ones are committees, which make fewer wrong calls than single models.
    """
    before, claims = champion(user), {}
    titles = {row["model_id"]: row["title"] for row in user.rows("SELECT model_id, title FROM registered_model")}
    by_verdict = {}
    for model in models:
        verdict = model["manifest"]["site"]["verdict"]
        print(f"{model['model_id'][:12]} {titles[model['model_id']]}: {' '.join(verdict)}")
        by_verdict[may_be_used(verdict)] = model["model_id"]
    if refused := by_verdict.get(False):
        why = user.is_refused("models", "promote", refused, "--reason", "the verdict is not read")
        print(f"refused: {why}")
        is_same = champion(user) == before
        claims["a model that its verdict does not allow is refused"] = is_same and "Must not be used" in why
    if allowed := by_verdict.get(True):
        user.runs("models", "promote", allowed, "--reason", "its verdict allows it")
        claims["a model that its verdict allows becomes champion"] = champion(user) == allowed
    return claims


def wait_for(user: User, n_slides: int) -> None:
    """Waits until every slide of the night has a result."""
    deadline = time.monotonic() + 1800
    while len(user.rows(STATES)) < n_slides:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the night is not done: {user.runs('nights')}")
        time.sleep(5)


def show_night(user: User, truth: Mapping[tuple[str, str], str], *, calibrated: bool) -> dict[str, bool]:
    """Prints what became of each slide, beside the truth; returns the claims."""
    calls = {(row["barcode"], row["file_name"]): row["called_class"] for row in user.rows(CALLS)}
    states = {row["barcode"]: row for row in user.rows(STATES)}
    table = boxed_table("Slide", "state", "withheld for", "cells", "called", "right", "out of scope called",
                        "largest difference", right=("cells", "called", "right"))  # fmt: skip
    for barcode in sorted(states):
        keys = [key for key in truth if key[0] == barcode]
        known = [key for key in keys if truth[key] in CELL_CLASSES]
        called = [key for key in known if calls.get(key, UNCLASSIFIED) != UNCLASSIFIED]
        right = sum(calls[key] == truth[key] for key in called)
        outside = [key for key in keys if key not in known]
        n_outside = sum(calls.get(key, UNCLASSIFIED) != UNCLASSIFIED for key in outside)
        table.add_row(
            barcode,
            states[barcode]["state"],
            states[barcode]["withheld_for"],
            str(len(known)),
            percent(len(called) / max(1, len(known)), 0),
            percent(right / max(1, len(called)), 0) if called else "-",
            f"{n_outside} of {len(outside)}",
            difference([truth[key] for key in known], [calls.get(key, UNCLASSIFIED) for key in keys]),
        )
    Console(width=160).print(table)
    night = f"SELECT n_files - n_ignored AS n_images FROM night_summary WHERE night = '{NIGHT}'"
    claims = {"every image of the night has a call": len(calls) == len(truth) == int(user.rows(night)[0]["n_images"])}
    print(f"slides unlike those that the champion knows: {len(user.rows(UNLIKE))} of {len(states)}")
    if not calibrated:
        claims["every slide is withheld by the shipped champion"] = all(
            row["state"] == "withheld" for row in states.values()
        )
    return claims


def difference(truth: Sequence[str], calls: Sequence[str]) -> str:
    """Returns the class whose share among leucocytes differs most from the truth, and by how many points."""
    classes = [name for name in CELL_CLASSES if name not in ("platelet", "erythroblast")]

    def shares(of: Sequence[str]) -> np.ndarray:
        counts = np.array([of.count(name) for name in classes], float)
        return np.asarray(100 * counts / max(1, counts.sum()))

    found = shares(calls) - shares(truth)
    if not any(name in classes for name in calls):
        return "no leucocyte is called"
    most = int(np.abs(found).argmax())
    return f"{classes[most]} {found[most]:+.0f} points"


if __name__ == "__main__":
    sys.exit(main())
