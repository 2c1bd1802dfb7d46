"""The Dag file as Airflow reads it, and one whole run with a champion that the labels contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.classified_nights import called_cells, classified_night, rows
from tests.dags.reading import IMPORTED, read_by_airflow
from tests.laboratory import Laboratory
from tests.monitoring.conftest import settings
from tests.monitoring.webhook import listening

__all__ = ["settings"]  # a fixture

PARSED = """
import json, os, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(Path(sys.argv[1]).parent)
dag = bag.dags["check_champion"]

def schedule(cron):
    os.environ["BLOODCELL_CHECK_CRON"] = cron
    timetable = DagBag(Path(sys.argv[1]).parent).dags["check_champion"].timetable
    return getattr(timetable, "expression", type(timetable).__name__)

policy = dag.get_task("check").retry_policy
from bloodcell import errors
decided = {
    name: policy.evaluate(getattr(errors, name)("", **fields), 1, 5).action.value
    for name, fields in {
        "ConfigurationError": {}, "BundleError": {"folder": ""}, "CheckFailedError": {},
        "DatabaseUnavailableError": {}, "StoreUnavailableError": {}, "BloodcellError": {},
    }.items()
}
print(json.dumps({
    "errors": bag.import_errors,
    "schedule": dag.timetable.expression,
    "schedules": {cron: schedule(cron) for cron in ("30 4 * * 1-5", "")},
    "catchup": dag.catchup,
    "max_active_runs": dag.max_active_runs,
    "doc": dag.doc_md,
    "tasks": {
        task.task_id: {
            "pool": task.pool, "queue": task.queue, "retries": task.retries, "rule": task.trigger_rule.value,
            "upstream": sorted(task.upstream_task_ids), "has_policy": task.retry_policy is not None,
            "tells": [type(each).__name__ for each in task.on_failure_callback],
        }
        for task in dag.tasks
    },
    "decided": decided,
    "alarm_takes": [list(dag.get_task("alarm").op_args), dict(dag.get_task("alarm").op_kwargs)],
}))
"""

RUN = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(Path(sys.argv[1]).parent).dags["check_champion"]
run = dag.test(run_after=None, use_executor=False)
print(json.dumps({"run_id": run.run_id, "states": {ti.task_id: str(ti.state) for ti in run.get_task_instances()}}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Returns what Airflow reads from the file."""
    return read_by_airflow("check_champion", tmp_path_factory.mktemp("airflow"), PARSED)


def test_the_file_is_imported_quickly_and_without_anything_heavy(tmp_path: Path) -> None:
    imported = read_by_airflow("check_champion", tmp_path, IMPORTED)

    assert imported["heavy"] == []
    assert imported["took_s"] < 1


def test_the_file_parses_without_errors_and_explains_itself(parsed: dict[str, Any]) -> None:
    assert {path for path in parsed["errors"] if path.endswith("check_champion.py")} == set()
    assert "Doing it again is safe" in parsed["doc"]


def test_the_alarm_follows_the_check_and_both_report_to_the_webhook(parsed: dict[str, Any]) -> None:
    tasks = parsed["tasks"]
    assert {name: task["upstream"] for name, task in tasks.items()} == {"check": [], "alarm": ["check"]}
    assert {name: task["tells"] for name, task in tasks.items()} == {
        "check": ["AlarmNotifier"],
        "alarm": ["AlarmNotifier"],
    }


def test_the_alarm_takes_no_value_that_a_user_of_airflow_can_write(parsed: dict[str, Any]) -> None:
    assert parsed["alarm_takes"] == [[], {}]


def test_the_check_uses_the_gpu(parsed: dict[str, Any]) -> None:
    tasks = parsed["tasks"]
    assert (tasks["check"]["pool"], tasks["check"]["queue"]) == ("gpu", "gpu")
    assert tasks["alarm"]["pool"] == "default_pool"


def test_a_crossed_threshold_is_not_retried(parsed: dict[str, Any]) -> None:
    assert all(task["has_policy"] and task["retries"] == 5 for task in parsed["tasks"].values())
    assert parsed["decided"] == {
        "ConfigurationError": "fail",
        "BundleError": "fail",
        "CheckFailedError": "fail",
        "DatabaseUnavailableError": "retry",
        "StoreUnavailableError": "retry",
        "BloodcellError": "default",
    }


def test_one_run_at_a_time_with_an_optional_cron(parsed: dict[str, Any]) -> None:
    assert (parsed["max_active_runs"], parsed["catchup"]) == (1, False)
    assert parsed["schedule"] == "0 5 * * *"
    assert parsed["schedules"] == {"30 4 * * 1-5": "30 4 * * 1-5", "": "NullTimetable"}


def run_it(settings: Settings, home: Path, **environment: str) -> dict[str, Any]:
    """Runs the Dag once, in this Airflow home, on the laboratory's database."""
    return read_by_airflow(
        "check_champion",
        home,
        RUN,
        BLOODCELL_DATA_DIR=str(settings.data_dir),
        BLOODCELL_DATABASE_URL=str(settings.plain_database_url),
        **environment,
    )


def test_without_a_champion_the_run_is_skipped_and_no_alarm_is_sent(settings: Settings, airflow_home: Path) -> None:
    with listening() as webhook:
        ended = run_it(settings, airflow_home, BLOODCELL_ALARM_URL=webhook.url)
    assert ended["states"] == {"check": "skipped", "alarm": "skipped"}
    assert webhook.messages == []


def test_a_run_writes_its_rows_then_fails_with_the_reason_and_reports_to_the_webhook(
    settings: Settings, database: Database, champion: str, airflow_home: Path
) -> None:
    classified_night(settings.model_copy(update={"sample_cells": 10_000}))
    called = called_cells(database, champion)
    Laboratory(database).label([cell for cell, _ in called], ["basophil"] * len(called), blind=True)
    with listening() as webhook:
        ended = run_it(settings, airflow_home, BLOODCELL_ALARM_URL=webhook.url, BLOODCELL_CHECK_MIN_CELLS="40")
    assert ended["states"] == {"check": "success", "alarm": "failed"}
    written = rows(database, "SELECT kind, passed FROM bloodcell.champion_check WHERE class IS NULL AND NOT passed")
    assert written == [("agreement", False)]
    assert rows(database, "SELECT airflow_run FROM bloodcell.run WHERE stage = 'check'") == [(ended["run_id"],)]
    (message,) = webhook.messages
    assert (message["dag_id"], message["task_id"], message["run_id"]) == ("check_champion", "alarm", ended["run_id"])
    assert message["reason"].startswith(f"Champion {champion[:12]} needs attention; its calls are reported as before.")
    assert "Even the upper end of the interval is below the threshold of 90.0 %" in message["text"]
