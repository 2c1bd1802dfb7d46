"""The Dag file as Airflow reads it, and one whole run on a store that has lost two images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.classified_nights import rows
from tests.dags.reading import read_by_airflow
from tests.monitoring.webhook import listening
from tests.verification.damaged_store import N_OBJECTS, filled

PARSED = """
import json, os, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(Path(sys.argv[1]).parent)
dag = bag.dags["verify_store"]
os.environ["BLOODCELL_VERIFY_CRON"] = ""
unscheduled = DagBag(Path(sys.argv[1]).parent).dags["verify_store"]
(task,) = dag.tasks
print(json.dumps({
    "errors": bag.import_errors,
    "schedules": [dag.timetable.expression, type(unscheduled.timetable).__name__],
    "runs": [dag.catchup, dag.max_active_runs],
    "doc": dag.doc_md,
    "task": [task.task_id, task.pool, task.queue, task.retries, type(task.on_failure_callback[0]).__name__],
}))
"""

RUN = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(Path(sys.argv[1]).parent).dags["verify_store"]
run = dag.test(run_after=None, use_executor=False)
print(json.dumps({"run_id": run.run_id, "states": [str(ti.state) for ti in run.get_task_instances()]}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The Dag as Airflow reads it from the file."""
    return read_by_airflow("verify_store", tmp_path_factory.mktemp("airflow"), PARSED)


def test_the_file_parses_to_one_task_that_needs_no_gpu_and_raises_the_alarm(parsed: dict[str, Any]) -> None:
    assert {path for path in parsed["errors"] if path.endswith("verify_store.py")} == set()
    assert "Doing it again is safe" in parsed["doc"]
    assert parsed["task"] == ["verify", "default_pool", "default", 5, "AlarmNotifier"]


def test_it_runs_weekly_one_run_at_a_time_and_only_by_hand_without_a_cron(parsed: dict[str, Any]) -> None:
    assert parsed["schedules"] == ["0 12 * * 0", "NullTimetable"]
    assert parsed["runs"] == [False, 1]


def test_a_run_heals_what_it_can_and_fails_with_an_alarm_if_damage_is_left(
    settings: Settings, database: Database, airflow_home: Path
) -> None:
    laboratory = filled(settings, database)
    healed, lost = laboratory.image("SNE_00000000.png"), laboratory.image("SNE_00000001.png")
    laboratory.damage(healed, "altered")
    laboratory.damage(lost, "missing")
    (settings.drops / "2026-11-21" / "S1" / "SNE_00000001.png").unlink()
    with listening() as webhook:
        ended = read_by_airflow(
            "verify_store",
            airflow_home,
            RUN,
            BLOODCELL_DATA_DIR=str(settings.data_dir),
            BLOODCELL_DATABASE_URL=str(settings.plain_database_url),
            BLOODCELL_ALARM_URL=webhook.url,
        )
    assert ended["states"] == ["failed"]
    recorded = "SELECT v.n_objects, v.n_damaged, v.n_healed, h.airflow_run FROM bloodcell.store_verification v"
    assert rows(database, f"{recorded} JOIN bloodcell.run_history h USING (run_id)") == [
        (N_OBJECTS, 2, 1, ended["run_id"])
    ]
    (message,) = webhook.messages
    assert message["reason"].startswith(f"1 of {N_OBJECTS} objects of the store {settings.store} are damaged")
    assert (healed in laboratory.objects(), lost in laboratory.objects()) == (True, False)
