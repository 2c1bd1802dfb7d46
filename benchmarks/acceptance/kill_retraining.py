"""Kills a retraining in each of its stages; it must end like an undisturbed one, with the same figures.

    python -m benchmarks.acceptance.kill_retraining WORK [--shared ../shared] [--kill promote:0.2 ...]

Works on what `benchmarks.acceptance.six_weeks WORK` left behind. Every run has the same labels, the same seed and the
same champion, which is rolled back to after each run. The figures may differ by 0.2 points at most.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from benchmarks.acceptance import staged as lab
from bloodcell.presentation.numbers import percent
from bloodcell.registry.promotion import rollback
from bloodcell.registry.registered_models import champion
from bloodcell.service.airflow_api import RETRAIN, AirflowApi
from bloodcell.storage.database import open_database
from bloodcell.storage.store import Store

KILLS = (("train", 3.0), ("train", 15.0), ("validate", 2.0), ("validate", 8.0), ("promote", 0.0), ("promote", 0.2))
TOLERANCE = 0.002

FIGURES = """
    SELECT e.accuracy, e.macro_f1, e.calibration_error, e.unclassified FROM bloodcell.training_run t
    JOIN bloodcell.candidate c USING (training_run_id)
    JOIN bloodcell.evaluation e ON e.model_id = c.model_id AND e.dataset_digest = t.dataset_digest
    WHERE t.airflow_run = :run_id
"""
# the outcome of a retraining, and how often it wrote what it must write exactly once
STATE = """
    SELECT t.state, t.dataset_digest, t.approval ->> 'by' AS answered_by,
           (SELECT count(*) FROM bloodcell.candidate c WHERE c.training_run_id = t.training_run_id) AS n_candidates,
           (SELECT count(*) FROM bloodcell.validation v WHERE v.training_run_id = t.training_run_id) AS n_validations,
           (SELECT count(*) FROM bloodcell.promotion p
            WHERE p.evidence ->> 'training_run_id' = t.training_run_id::text) AS n_promotions
    FROM bloodcell.training_run t WHERE t.airflow_run = :run_id
"""


def kill(api: AirflowApi, run_id: str, task_id: str, after_s: float) -> bool:
    """Kills a task `after_s` seconds after it began; returns whether it was still running."""
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline:
        for task in api.run_state(RETRAIN, run_id).tasks:
            if task.task_id == task_id and task.pid and task.state == "running":
                time.sleep(after_s)
                if not psutil.pid_exists(task.pid):
                    return False
                os.kill(task.pid, signal.SIGKILL)
                return True
            if task.task_id == task_id and task.state == "success":
                return False
        time.sleep(0.05)
    raise RuntimeError(f"{task_id} of {run_id} did not begin")


def run(staged: lab.Staged, api: AirflowApi, task_id: str | None, after_s: float) -> tuple[str, bool]:
    """Runs a retraining, kills one of its tasks, answers it; returns the run's id and whether there was a kill."""
    run_id = lab.start_retraining(
        api, variants=["inception_v3_svm"], min_new_labels=0, reason="kill test", requested_by="tests"
    )
    killed = kill(api, run_id, task_id, after_s) if task_id in ("train", "validate") else False
    state = api.wait(RETRAIN, run_id, timeout_s=3600, for_a_person=False)
    if not state.ended:
        lab.answer(staged, run_id, approve=True, reason="kill test")
        if task_id == "promote":
            killed = kill(api, run_id, task_id, after_s)
        api.wait(RETRAIN, run_id, timeout_s=1200)
    return run_id, killed


def back(staged: lab.Staged) -> None:
    """Rolls back to the previous champion."""
    database, store = open_database(staged.settings), Store.of(staged.settings)
    now = database.transact(champion, patience_s=60)
    database.transact(lambda c: rollback(c, store, replaces=now, by="tests", reason="kill test"), patience_s=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--port", type=int, default=8093)
    parser.add_argument("--keep-features", action="store_true", help="do not compute the features again each time")
    parser.add_argument(
        "--kill",
        action="append",
        metavar="TASK:SECONDS",
        help="kill this task after it ran for SECONDS; may be repeated",
    )
    asked = parser.parse_args()
    kills = [(task, float(after_s)) for task, after_s in (each.split(":") for each in asked.kill or [])] or KILLS
    staged = lab.stage(asked.work, asked.shared, asked.port)
    features = staged.settings.data_dir / "training" / "features"
    n_bad = 0
    with lab.system(staged) as api:
        expected = None
        for task_id, after_s in ((None, 0.0), *kills):
            if features.exists() and not asked.keep_features:
                features.rename(features.with_name(f"features-{time.time_ns()}"))
            run_id, killed = run(staged, api, task_id, after_s)
            (figures,) = lab.rows(staged, FIGURES, run_id=run_id)
            (state,) = lab.rows(staged, STATE, run_id=run_id)
            found = (tuple(figures), tuple(state))
            expected = expected or found
            furthest = max(abs(a - b) for a, b in zip(expected[0], found[0], strict=True))
            is_good = found[1] == expected[1] and furthest <= TOLERANCE
            n_bad += not is_good or (task_id is not None and not killed)
            print(
                f"{task_id or 'undisturbed'} {'killed' if killed else 'not killed'} after {after_s:.1f} s: "
                f"{found[1]}, accuracy {percent(figures.accuracy, 2)}, "
                f"furthest figure {100 * furthest:.3f} points off: "
                f"{'as undisturbed' if is_good else 'DIFFERS'}",
                flush=True,
            )
            back(staged)
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
