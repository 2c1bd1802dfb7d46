"""A staged laboratory with real images: nights with known truth, readers who make mistakes, and a running system."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.labels import LabelImport, import_labels
from bloodcell.registry.bundle import Bundle
from bloodcell.service.airflow_api import NIGHTLY_RUN, RETRAIN, AirflowApi
from bloodcell.service.airflow_records import RunState
from bloodcell.service.up import running_stack
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from bloodcell.training.bundle_training import train
from tests.laboratory import make_champion

FIRST_NIGHT = date(2026, 1, 5)
PATHOLOGIST = "pathologist"


@dataclass(frozen=True)
class Staged:
    """Where the staged laboratory is.

    Attributes:
        settings: Settings of its installation.
        shared: Folder with pbc/, weights/ and tools/.
        work: Folder that holds everything of the laboratory.
    """

    settings: Settings
    shared: Path
    work: Path

    @property
    def held_out(self) -> Path:
        """100 images per class that are in no drop and in no training."""
        return self.work / "images" / "held_out"

    @property
    def first(self) -> Path:
        """25 images per class that the first champion is trained on."""
        return self.work / "images" / "first"

    @property
    def pool(self) -> Path:
        """All other images, from which the drops are made."""
        return self.work / "images" / "pool"

    def night(self, week: int) -> date:
        return FIRST_NIGHT + timedelta(weeks=week)


def stage(work: Path, shared: Path, port: int, **changes: Any) -> Staged:
    """Returns the laboratory, after laying out its images unless that was done before."""
    settings = Settings(
        data_dir=work / "data",
        weights_dir=shared / "weights",
        airflow_url=f"http://127.0.0.1:{port}",
        desk_url=f"http://127.0.0.1:{port + 1}",
        nightly_cron="",
        retrain_cron="",
        check_cron="",
        verify_cron="",
        labels_cron="",
        approvers=PATHOLOGIST,
        settle_s=0,
        shipped_models=False,
        # a few hundred slides in all, so the whole night is the random sample, and few patients judge
        sample_cells=100_000,
        gate_min_holdout_patients=5,
        gate_min_out_of_scope_cells=0,
        gate_min_class_patients=2,
        **changes,
    )
    staged = Staged(settings, shared, work)
    if not staged.pool.exists():
        with (shared / "pbc" / "manifest.csv").open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["sha256"])
        for cell_class in CELL_CLASSES:
            members = [shared / "pbc" / row["path"] for row in rows if row["class"] == cell_class]
            for folder, part in (
                (staged.held_out, members[:100]), (staged.first, members[100:125]), (staged.pool, members[125:])
            ):  # fmt: skip
                (folder / cell_class).mkdir(parents=True)
                for path in part:
                    (folder / cell_class / path.name).symlink_to(path)
    return staged


def first_champion(staged: Staged) -> Bundle:
    """Trains a model on 25 images per class and makes it champion."""
    settings = staged.settings
    bundle = train("inception_v3_svm", staged.first, settings)
    make_champion(settings, bundle, by="lead", reason="the first, trained on 25 images per class")
    return bundle


def make_night(staged: Staged, week: int, slides: int, cells: int) -> list[tuple[str, str, str]]:
    """Makes a week's drop; returns (barcode, file, class) of every file that is a cell."""
    night, out = staged.night(week).isoformat(), staged.work / "made"
    tool = staged.shared / "tools" / "make_drop.py"
    command = [sys.executable, str(tool), str(out), "--night", night, "--slides", str(slides), "--cells", str(cells)]
    subprocess.run([*command, "--seed", str(week), "--images", str(staged.pool)], check=True, capture_output=True)
    for record in (out / night).glob("*/slide.json"):
        slide = json.loads(record.read_text())
        slide["patient_key"] = f"W{week}-{slide['patient_key']}"  # the tool's patients are the same every night
        record.write_text(json.dumps(slide))
    staged.settings.drops.mkdir(parents=True, exist_ok=True)
    shutil.move(out / night, staged.settings.drops / night)
    with (out / f"{night}.truth.csv").open(newline="") as file:
        return [
            (path.split("/")[1], path.split("/")[2], row["class"])
            for row in csv.DictReader(file)
            if row["expect"] == "cell"
            for path in [row["path"]]
        ]


def write_labels(
    path: Path, truth: list[tuple[str, str, str]], seed: int, *, errors: float = 0.02, contested: float = 0.01
) -> None:
    """Writes two readers' labels of a night: every fourth slide is read blind, some labels are wrong or contested."""
    rng = random.Random(seed)
    at = datetime.now(UTC).isoformat()
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("slide", "file", "label", "labelled_by", "labelled_at", "blind"))
        for barcode, name, cell_class in truth:
            blind = int(barcode[-4:]) // 2 % 4 == 0
            others = [other for other in CELL_CLASSES if other != cell_class]
            said = rng.choice(others) if rng.random() < errors else cell_class
            rows.writerow((barcode, name, said, "dr.a", at, int(blind)))
            if rng.random() < contested:
                rows.writerow((barcode, name, rng.choice([o for o in CELL_CLASSES if o != said]), "dr.b", at, 0))


def label_night(staged: Staged, week: int, truth: list[tuple[str, str, str]]) -> LabelImport:
    """Imports the labels of a week's night."""
    path = staged.work / f"labels-{week}.csv"
    write_labels(path, truth, week)
    return import_labels(path, staged.settings)


@contextmanager
def system(staged: Staged) -> Iterator[AirflowApi]:
    """Yields the API of the running system."""
    with (
        running_stack(staged.settings, watch=False, announce=lambda line: print(f"  {line}", flush=True)),
        AirflowApi(staged.settings) as api,
    ):
        yield api


def run_night(api: AirflowApi, night: date) -> RunState:
    """Runs a night through the scheduler."""
    run_id = api.trigger(NIGHTLY_RUN, conf={"night": night.isoformat()})
    return api.wait(NIGHTLY_RUN, run_id, timeout_s=3600)


def start_retraining(api: AirflowApi, **conf: object) -> str:
    """Triggers a retraining and returns its run's id."""
    return api.trigger(RETRAIN, conf=conf)


def answer(staged: Staged, run_id: str, *, approve: bool, reason: str, user: str = PATHOLOGIST) -> None:
    """Answers a retraining through the real API."""
    with AirflowApi(staged.settings.model_copy(update={"airflow_user": user})) as api:
        api.answer_approval(RETRAIN, run_id, "approve", approve=approve, reason=reason)


def retrain(staged: Staged, api: AirflowApi, *, approve: bool, reason: str, **conf: object) -> tuple[str, RunState]:
    """Runs a retraining to its end, and answers if it asks for approval."""
    run_id = start_retraining(api, **conf)
    state = api.wait(RETRAIN, run_id, timeout_s=7200, for_a_person=False)
    if not state.ended:
        answer(staged, run_id, approve=approve, reason=reason)
        state = api.wait(RETRAIN, run_id, timeout_s=600)
    return run_id, state


def rows(staged: Staged, statement: str, **values: object) -> list[sa.Row[*tuple[Any, ...]]]:
    """Returns rows that are read with the rights of the app."""
    database = open_database(staged.settings)
    return database.transact(lambda c: list(c.execute(sa.text(statement), values)), patience_s=60)
