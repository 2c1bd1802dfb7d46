"""The demonstration of retraining: a drawn night is labelled, and a model trained on the labels becomes champion."""

from __future__ import annotations

import csv
import io
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from rich.console import Console
from rich.markdown import Markdown
from rich.panel import Panel

from bloodcell.cells.classes import CLASS_NAMES, REPORT_ORDER
from bloodcell.demo.tour import classified_night, demo_settings, print_next_steps, run_through
from bloodcell.presentation.numbers import percent
from bloodcell.presentation.tables import boxed_table
from bloodcell.service.airflow_api import PATIENCE_S, RETRAIN, AirflowApi
from bloodcell.storage.atomic_write import write_atomically
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from bloodcell.drawing.drops import DrawnDrop
    from bloodcell.service.airflow_records import Approval
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

    Decide = Callable[[Approval], tuple[bool, str]]

_SQL: Final = load_statements("demo/retraining_tour.sql")
N_SLIDES: Final = 24
CELLS_PER_SLIDE: Final = 50
VARIANT: Final = "inception_v3_svm"
PATHOLOGIST: Final = "pathologist"

N_READ_BLIND: Final = 8
"""Slides labelled without seeing the calls, at least one of each finding: their patients judge the candidate, two of
them in the lockbox."""

SETTINGS: Final[dict[str, Any]] = {
    "approvers": PATHOLOGIST,
    "sample_cells": N_SLIDES * CELLS_PER_SLIDE,
    "holdout_fraction": N_READ_BLIND / N_SLIDES,
    "validation_fraction": 0.25,
    "gate_accuracy_margin": 0.05,
    "gate_class_margin": 0.25,
    "gate_class_unclassified_margin": 0.4,
    "gate_max_calibration_error": 0.15,
    "gate_unclassified_margin": 0.15,
    "gate_min_holdout_cells": 1,
    "gate_min_holdout_patients": 5,
    "gate_min_out_of_scope_cells": 0,
    "gate_min_class_patients": 1,
}
"""More lenient gates than a laboratory's, because the hold-out is six drawn patients with few erythroblasts; and a
random sample of all cells, where a laboratory reads some of each night."""

_PROMOTED_S: Final = 300.0


def run_retraining_demo(settings: Settings, decide: Decide) -> str:
    """Classifies and labels a drawn night, retrains on the labels, asks for approval, and shows the new champion.

    Returns:
        How the retraining ended, one of `bloodcell.retraining.TrainingState`.

    Args:
        settings: Its data folder gets a sub-folder `demo`, and its port is used if it is free.
        decide: Called when a candidate has passed every gate; returns whether it becomes champion, and why.

    Raises:
        DemoError: A run failed; the message says where its logs are.
        BloodcellError: The system could not be started.
    """
    settings = demo_settings(settings).model_copy(update=SETTINGS)
    out, err = Console(), Console(stderr=True)
    with classified_night(settings, err, N_SLIDES, CELLS_PER_SLIDE) as (database, api, drop):
        _label(drop, settings, err)
        out.print(_agreement(database, drop))
        conf = {
            "variants": [VARIANT],
            "base": "champion",
            "min_new_labels": 1,
            "reason": f"labels of {drop.folder.name}",
            "requested_by": "demo",
        }
        run = run_through(api, RETRAIN, conf, settings, err)
        if question := api.approval(RETRAIN, run.run_id, "approve"):
            out.print(Markdown(question.body))
            approve, reason = decide(question)
            as_pathologist = settings.model_copy(update={"airflow_user": PATHOLOGIST})
            with AirflowApi(as_pathologist, patience_s=PATIENCE_S) as pathologist:
                pathologist.answer_approval(RETRAIN, run.run_id, "approve", approve=approve, reason=reason)
            api.wait(RETRAIN, run.run_id, timeout_s=_PROMOTED_S)
        state = _show_outcome(database, run.run_id, out)
    print_next_steps(out, _next_steps(settings))
    return state


def _label(drop: DrawnDrop, settings: Settings, err: Console) -> None:
    """Labels every cell of the night, as a pathologist would, with the class it was drawn as."""
    from bloodcell.labels import import_labels

    path = write_label_file(drop, settings.data_dir / "labels")
    found = import_labels(path, settings)
    err.print(f"{found.n_new:,} labels by the {PATHOLOGIST}, imported from {path}\n", highlight=False)


def write_label_file(drop: DrawnDrop, folder: Path) -> Path:
    """Writes a pathologist's labels of all drawn cells, and returns the file."""
    blind = {slide.barcode for slide in drop.slides[:N_READ_BLIND]}
    folder.mkdir(exist_ok=True)
    path = folder / f"{drop.folder.name}.csv"
    at = datetime.now(UTC).isoformat()
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("slide", "file", "label", "labelled_by", "labelled_at", "blind"))
    for (slide, name), cell_class in drop.drawn_as().items():
        rows.writerow((slide, name, cell_class, PATHOLOGIST, at, int(slide in blind)))
    write_atomically(str(path), text.getvalue().encode())
    return path


def _agreement(database: Database, drop: DrawnDrop) -> Table:
    """Returns how many of the champion's calls the pathologist confirmed, by cell class."""
    found = database.transact(lambda c: list(c.execute(_SQL["agreement"], {"night": drop.folder.name})))
    of_class = {row["class"]: row for row in (each._mapping for each in found)}
    counted = ("cells", "confirmed", "corrected", "unclassified before")
    title = f"The pathologist's labels for the night {drop.folder.name}"
    table = boxed_table("Labelled as", *counted, right=counted, title=title)
    for cell_class in REPORT_ORDER:
        if row := of_class.get(cell_class):
            corrected = row["n"] - row["n_confirmed"] - row["n_unclassified"]
            counts = (row["n"], row["n_confirmed"], corrected, row["n_unclassified"])
            table.add_row(CLASS_NAMES[cell_class], *(f"{n:,}" for n in counts))
    return table


def _show_outcome(database: Database, run_id: str, out: Console) -> str:
    """Shows how the retraining ended, and returns its state."""

    def read(connection: sa.Connection) -> tuple[sa.Row[Any], sa.Row[Any]]:
        retraining = sa.text("SELECT * FROM bloodcell.retraining WHERE airflow_run = :run_id")
        champion = sa.text("SELECT * FROM bloodcell.champion")
        return connection.execute(retraining, {"run_id": run_id}).one(), connection.execute(champion).one()

    row, champion = database.transact(read)
    lines = [f"{row.state}: {row.state_reason}", ""]
    if row.model_id:
        lines += [
            f"champion before   {row.champion_id[:12]}, correct for "
            f"{percent(row.champion_holdout_accuracy)} of the hold-out",
            f"candidate         {row.model_id[:12]}, correct for {percent(row.holdout_accuracy)}",
            f"trained on        data set {row.dataset_digest[:12]}",
        ]
    lines.append(f"champion now      {champion.model_id[:12]}, {champion.action} by {champion.promoted_by}")
    out.print(Panel("\n".join(lines), title="The retraining", expand=False), highlight=False)
    if row.report:
        out.print(f"[dim]With plots: {row.report}[/]\n", highlight=False, soft_wrap=True)
    return str(row.state)


def _next_steps(settings: Settings) -> str:
    return (
        f"export PATH={Path(sys.executable).parent}:$PATH\n"
        f"export BLOODCELL_DATA_DIR={settings.data_dir}\n"
        f'bloodcell db psql -c "TABLE bloodcell.retraining"      every retraining\n'
        f'bloodcell db psql -c "TABLE bloodcell.model_history"   every champion\n'
        f'bloodcell models rollback --reason "only a demo"       back to the previous champion\n'
        f"bloodcell labels status"
    )
