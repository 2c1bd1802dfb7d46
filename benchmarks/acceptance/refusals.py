"""Every way in which a model does not become champion, on real images; then a rollback, and the night after it.

    python -m benchmarks.acceptance.refusals WORK [--shared ../shared]

Works on what `benchmarks.acceptance.six_weeks WORK` left behind, through the real scheduler and Airflow's real API: an
answer by someone who is not assigned, a rejection, an approval marked successful by hand, no answer in time, and a
candidate trained on shuffled labels, which somebody then tries to promote by hand. Prints a line for each, and ends
with status 1 if one differs.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from benchmarks.acceptance import staged as lab
from bloodcell.labels import import_labels
from bloodcell.service.airflow_api import RETRAIN, AirflowApi
from bloodcell.service.airflow_session import AirflowRefusedError
from bloodcell.storage.connections import connect, database_url
from tests.airflow_page import AirflowPage

CHAMPION = "SELECT model_id FROM bloodcell.champion"
RETRAINING = "SELECT * FROM bloodcell.retraining WHERE airflow_run = :run_id"
LEARNT_FROM = """
    SELECT i.barcode, i.file_name, i.class FROM bloodcell.training_image i
    JOIN bloodcell.training_set s USING (dataset_digest)
    WHERE i.split <> 'holdout' AND i.class IS NOT NULL
      AND s.created_at = (SELECT max(created_at) FROM bloodcell.training_set)
"""
CALLS = """
    SELECT count(*) AS n, count(DISTINCT model_id) AS n_models, min(model_id) AS model_id
    FROM bloodcell.cell_result WHERE night = :night AND is_reported
"""


class Checks:
    """Prints each expectation with whether it held, and counts those that did not."""

    def __init__(self) -> None:
        self.n_bad = 0

    def __call__(self, what: str, held: bool, found: object) -> None:
        self.n_bad += not held
        print(f"{'held' if held else 'DIFFERS'}: {what}: {found}", flush=True)


def champion(staged: lab.Staged) -> str:
    return str(lab.rows(staged, CHAMPION)[0].model_id)


def cli(staged: lab.Staged, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BLOODCELL_DATA_DIR": str(staged.settings.data_dir)}
    return subprocess.run(
        [sys.executable, "-m", "bloodcell", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def label(staged: lab.Staged, name: str, said: list[tuple[str, str, str]]) -> None:
    """Has `dr.a` label cells; her newest label of a cell is the one that counts."""
    path = staged.work / f"{name}.csv"
    at = datetime.now(UTC).isoformat()
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("slide", "file", "label", "labelled_by", "labelled_at"))
        table.writerows((*row, "dr.a", at) for row in said)
    import_labels(path, staged.settings)


def asked(api: AirflowApi) -> str:
    """Starts a retraining whose candidate passes the gates, and returns its run when it waits for a person."""
    run_id = lab.start_retraining(api, variants=["inception_v3_svm"], min_new_labels=0, reason="refusals")
    state = api.wait(RETRAIN, run_id, timeout_s=3600, for_a_person=False)
    if not state.waits_for_a_person:
        raise RuntimeError(f"{run_id} does not wait for a person: {state}")
    return run_id


def refused_answers(staged: lab.Staged, api: AirflowApi, check: Checks) -> None:
    before = champion(staged)
    run_id = asked(api)
    try:
        api.answer_approval(RETRAIN, run_id, "approve", approve=True, reason="I am the administrator")
    except AirflowRefusedError as refusal:
        check("an answer by someone who is not assigned is refused", refusal.status == 403, refusal)
    else:
        check("an answer by someone who is not assigned is refused", False, "it was accepted")
    lab.answer(staged, run_id, approve=False, reason="too few basophils")
    api.wait(RETRAIN, run_id, timeout_s=600)
    (row,) = lab.rows(staged, RETRAINING, run_id=run_id)
    check("a rejection", row.state == "rejected" and champion(staged) == before, row.state_reason)

    run_id = asked(api)
    with AirflowPage.of(staged.settings) as page:
        page.mark_task(RETRAIN, run_id, "approve", "success")
    state = api.wait(RETRAIN, run_id, timeout_s=600)
    (row,) = lab.rows(staged, RETRAINING, run_id=run_id)
    is_kept = (state.state, row.state) == ("failed", "failed") and champion(staged) == before
    check("the approval marked successful by hand", is_kept, row.state_reason)


def shuffled_labels(staged: lab.Staged, api: AirflowApi, check: Checks) -> None:
    before = champion(staged)
    truth = [tuple(row) for row in lab.rows(staged, LEARNT_FROM)]
    classes = [row[2] for row in truth]
    random.Random(0).shuffle(classes)
    label(staged, "shuffled", [(*row[:2], said) for row, said in zip(truth, classes, strict=True)])
    run_id = lab.start_retraining(api, variants=["inception_v3_svm"], min_new_labels=0, reason="labels shuffled")
    api.wait(RETRAIN, run_id, timeout_s=3600, for_a_person=False)
    (row,) = lab.rows(staged, RETRAINING, run_id=run_id)
    check("a candidate trained on shuffled labels is refused", row.state == "refused", row.state_reason)
    report = Path(row.report).read_text()
    check("its report says so", "refused" in report.lower() and "Accuracy may fall too far" in report, row.report)
    by_hand = cli(staged, "models", "promote", row.model_id, "--reason", "by hand")
    check("promoting it by hand fails", by_hand.returncode == 1, by_hand.stderr.strip())
    with connect(database_url(staged.settings)).connect() as connection:
        try:
            connection.execute(
                sa.text(
                    "INSERT INTO bloodcell.promotion (model_id, action, promoted_by, reason) "
                    "VALUES (:model_id, 'promote', 'x', 'y')"
                ),
                {"model_id": row.model_id},
            )
        except sa.exc.DBAPIError as error:
            check("promoting it in SQL, as the cluster's superuser, fails", True, str(error.orig).splitlines()[0])
        else:
            check("promoting it in SQL, as the cluster's superuser, fails", False, "it was accepted")
    check("the champion is still the same", champion(staged) == before, before[:12])
    label(staged, "put_right", truth)


def rolled_back(staged: lab.Staged, api: AirflowApi, check: Checks, week: int) -> None:
    newest = champion(staged)
    old_night = lab.rows(staged, "SELECT max(night) AS night FROM bloodcell.slide")[0].night
    (before,) = lab.rows(staged, CALLS, night=old_night)
    told = cli(staged, "models", "rollback", "--reason", "found a weakness", "--by", "lead")
    old = champion(staged)
    check("a rollback", told.returncode == 0 and old != newest, told.stdout.strip() or told.stderr.strip())
    lab.make_night(staged, week, 6, 60)
    night = lab.run_night(api, staged.night(week))
    (after,) = lab.rows(staged, CALLS, night=staged.night(week))
    is_old = night.state == "success" and (after.n_models, after.model_id) == (1, old)
    check("the night after it is called by the old champion", is_old, f"{after.n} calls by {old[:12]}")
    (still,) = lab.rows(staged, CALLS, night=old_night)
    check("an older night keeps its calls", tuple(still) == tuple(before), f"{still.n} calls of {old_night}")
    history = lab.rows(staged, "SELECT * FROM bloodcell.model_history ORDER BY promotion_id")
    actions = [f"{row.action} {row.model_id[:12]} by {row.promoted_by}" for row in history]
    check("the history records all of it", history[-1].action == "rollback" and history[-1].model_id == old, actions)


def nobody_answers(staged: lab.Staged, api: AirflowApi, check: Checks) -> None:
    before = champion(staged)
    run_id = asked(api)
    api.wait(RETRAIN, run_id, timeout_s=900)
    (row,) = lab.rows(staged, RETRAINING, run_id=run_id)
    check("nobody answers in time", row.state == "expired" and champion(staged) == before, row.state_reason)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--port", type=int, default=8093)
    parser.add_argument("--week", type=int, default=7, help="a week that has had no night yet")
    asked_for = parser.parse_args()
    staged, check = lab.stage(asked_for.work, asked_for.shared, asked_for.port), Checks()
    with lab.system(staged) as api:
        refused_answers(staged, api, check)
        shuffled_labels(staged, api, check)
        rolled_back(staged, api, check, asked_for.week)
    hasty = lab.stage(asked_for.work, asked_for.shared, asked_for.port, approval_timeout_h=0.02)
    with lab.system(hasty) as api:
        nobody_answers(hasty, api, check)
    return 1 if check.n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
