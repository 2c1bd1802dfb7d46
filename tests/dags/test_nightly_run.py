"""The Dag file as Airflow reads it; tests/service/test_up.py runs it with a real scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from bloodcell.quality_rules import DEFAULT_QUALITY
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.classified_nights import rows
from tests.dags.reading import IMPORTED, read_by_airflow
from tests.ingest.night import NightFolder
from tests.monitoring.webhook import listening
from tests.small_cells import draw

PARSED = """
import json, os, sys
from pathlib import Path
from types import SimpleNamespace
from airflow.dag_processing.dagbag import DagBag
from airflow.task.priority_strategy import validate_and_load_priority_weight_strategy as strategy
bag = DagBag(Path(sys.argv[1]).parent)
dag = bag.dags["nightly_run"]

def schedule(cron):
    os.environ["BLOODCELL_NIGHTLY_CRON"] = cron
    timetable = DagBag(Path(sys.argv[1]).parent).dags["nightly_run"].timetable
    return getattr(timetable, "expression", type(timetable).__name__)

policy = dag.get_task("classify").retry_policy
from bloodcell import errors
decided = {
    name: policy.evaluate(getattr(errors, name)("", **fields), 1, 5).action.value
    for name, fields in {
        "ConfigurationError": {}, "WeightsError": {}, "BundleError": {"folder": ""}, "TrainingDataError": {},
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
    "params": sorted(dag.params),
    "tasks": {
        task.task_id: {
            "pool": task.pool, "queue": task.queue, "retries": task.retries, "mapped": task.is_mapped,
            "rule": task.trigger_rule.value, "upstream": sorted(task.upstream_task_ids),
            "has_policy": task.retry_policy is not None,
        }
        for task in dag.tasks
    },
    "decided": decided,
    "weights_on_gpu": {
        task.task_id: strategy(task.weight_rule).get_weight(SimpleNamespace(task=task))
        for each in bag.dags.values() for task in each.tasks if task.pool == "gpu"
    },
}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The Dag as Airflow reads it from the file."""
    return read_by_airflow("nightly_run", tmp_path_factory.mktemp("airflow"), PARSED)


def test_the_file_is_imported_quickly_and_without_anything_heavy(tmp_path: Path) -> None:
    imported = read_by_airflow("nightly_run", tmp_path, IMPORTED)

    assert imported["heavy"] == []
    assert imported["took_s"] < 1


def test_the_file_parses_without_errors(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert "Doing it again is safe" in parsed["doc"]


def test_the_stages_run_in_order(parsed: dict[str, Any]) -> None:
    assert {name: task["upstream"] for name, task in parsed["tasks"].items()} == {
        "ingest": [],
        "plan": ["ingest"],
        "classify": ["plan"],
        "quality_control": ["classify", "ingest"],
        "differentials": ["ingest", "quality_control"],
        "report": ["classify", "differentials", "ingest", "quality_control"],
    }


def test_only_classify_uses_the_gpu_and_it_is_mapped_over_shards(parsed: dict[str, Any]) -> None:
    tasks = parsed["tasks"]
    assert (tasks["classify"]["pool"], tasks["classify"]["queue"], tasks["classify"]["mapped"]) == ("gpu", "gpu", True)
    assert {task["pool"] for name, task in tasks.items() if name != "classify"} == {"default_pool"}


def test_a_night_gets_a_gpu_before_any_other_task_that_waits_for_one(parsed: dict[str, Any]) -> None:
    weights = parsed["weights_on_gpu"]
    classify = weights.pop("classify")
    assert sorted(weights) == ["check", "promote", "train", "validate"]
    assert classify > max(weights.values())


def test_a_night_without_shards_or_with_a_failed_one_is_still_checked_and_added_up(parsed: dict[str, Any]) -> None:
    assert parsed["tasks"]["quality_control"]["rule"] == "all_done"
    assert "classify" not in parsed["tasks"]["differentials"]["upstream"]


def test_a_night_that_could_not_be_checked_is_not_added_up(parsed: dict[str, Any]) -> None:
    assert parsed["tasks"]["differentials"]["rule"] == "all_success"


def test_a_failed_shard_leaves_the_run_red(parsed: dict[str, Any]) -> None:
    assert parsed["tasks"]["report"]["rule"] == "none_failed"


def test_there_is_one_run_at_a_time_and_no_catch_up(parsed: dict[str, Any]) -> None:
    assert parsed["max_active_runs"] == 1
    assert parsed["catchup"] is False


def test_every_task_is_retried_by_the_kind_of_error(parsed: dict[str, Any]) -> None:
    assert all(task["has_policy"] and task["retries"] == 5 for task in parsed["tasks"].values())
    assert parsed["decided"] == {
        "ConfigurationError": "fail",
        "WeightsError": "fail",
        "BundleError": "fail",
        "TrainingDataError": "fail",
        "DatabaseUnavailableError": "retry",
        "StoreUnavailableError": "retry",
        "BloodcellError": "default",
    }


def test_the_trigger_form_has_four_fields(parsed: dict[str, Any]) -> None:
    assert parsed["params"] == ["models", "night", "redo", "slides"]


def test_the_cron_is_a_setting_and_without_it_only_watch_or_a_person_starts_a_run(parsed: dict[str, Any]) -> None:
    assert parsed["schedule"] == "0 2 * * *"
    assert parsed["schedules"] == {"30 4 * * 1-5": "30 4 * * 1-5", "": "NullTimetable"}


RUN = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(Path(sys.argv[1]).parent).dags["nightly_run"]
run = dag.test(run_after=None, use_executor=False)
print(json.dumps({"run_id": run.run_id, "states": {ti.task_id: str(ti.state) for ti in run.get_task_instances()}}))
"""
QUALITY = """
[[control]]
name = "normal blood"
barcode = "QC-N-*"
[control.percent]
neutrophil = 90.0
"""


def drop(settings: Settings) -> None:
    """Writes a night with a patient's slide, and a control slide without a neutrophil."""
    folder = NightFolder(settings.drops)
    for barcode, cell_class in (("S-1", "neutrophil"), ("QC-N-1", "lymphocyte")):
        for number in range(60):
            path = folder.path / barcode / f"LY_{number:08d}.png"
            path.parent.mkdir(exist_ok=True)
            draw(cell_class, np.random.default_rng((len(barcode), number))).save(path)
    folder.complete()


@pytest.mark.usefixtures("champion")
def test_a_control_that_fails_at_night_holds_everything_and_the_alarm_says_so(
    settings: Settings, database: Database, airflow_home: Path, tmp_path: Path
) -> None:
    drop(settings)
    quality = tmp_path / "quality.toml"
    quality.write_text(DEFAULT_QUALITY.read_text() + QUALITY)
    with database.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO bloodcell.receiver (name, protocol, gets_unsigned) VALUES ('lis', 'hl7', true)")
        )
    with listening() as webhook:
        variables = settings.as_variables() | {
            "BLOODCELL_QUALITY_FILE": str(quality),
            "BLOODCELL_ALARM_URL": webhook.url,
        }
        ended = read_by_airflow("nightly_run", airflow_home, RUN, **variables)
    assert set(ended["states"].values()) == {"success"}
    (message,) = webhook.messages
    assert (message["dag_id"], message["task_id"]) == ("nightly_run", "quality_control")
    assert "QC-N-1 (normal blood) is off target: neutrophil" in message["reason"]
    found = rows(database, "SELECT barcode, state, 'quality_control' = ANY (withheld_for) FROM bloodcell.slide_status")
    assert sorted(found) == [("QC-N-1", "withheld", True), ("S-1", "withheld", True)]
    assert rows(database, "SELECT message_id FROM bloodcell.outgoing_message") == []
