"""The Dag file as Airflow reads it; tests/service/test_retrain.py runs it with a real scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dags.reading import IMPORTED, read_by_airflow

WITH_OPERATOR = "import airflow.providers.standard.operators.hitl\n"  # Airflow's own, as airflow.sdk

PARSED = """
import json, os, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag

def bag(**environment):
    os.environ.update(environment)
    return DagBag(Path(sys.argv[1]).parent)

found = bag(BLOODCELL_APPROVERS="dr.a, dr.b", BLOODCELL_APPROVAL_TIMEOUT_H="2.5")
dag = found.dags["retrain"]
approve = dag.get_task("approve")
refused = {}
wrong = {"variants": ["vgg19"], "min_new_labels": -1, "base": "mine", "epochs": 0, "seed": -1, "reason": " "}
for name, value in wrong.items():
    try:
        dag.params.get_param(name).resolve(value)
    except Exception as error:
        refused[name] = type(error).__name__
print(json.dumps({
    "errors": found.import_errors,
    "params": {name: dag.params[name] for name in dag.params},
    "refused": refused,
    "gate_takes": [list(dag.get_task("gate").op_args), dict(dag.get_task("gate").op_kwargs)],
    "choice_removed": dag.params.get_param("variants").resolve(None),
    "schedule": dag.timetable.expression,
    "unscheduled": type(bag(BLOODCELL_RETRAIN_CRON="").dags["retrain"].timetable).__name__,
    "catchup": dag.catchup,
    "approve": {
        "assigned": [user["id"] for user in approve.assigned_users], "defaults": approve.defaults,
        "options": approve.options, "hours": approve.response_timeout.total_seconds() / 3600,
        "retries": approve.retries,
        "form": {name: [field["value"], field["schema"]["type"]] for name, field in approve.serialized_params.items()},
    },
    "tasks": {
        task.task_id: {
            "pool": task.pool, "queue": task.queue, "mapped": task.is_mapped, "rule": task.trigger_rule.value,
            "upstream": sorted(task.upstream_task_ids),
        }
        for task in dag.tasks
    },
}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Returns what Airflow reads from the file."""
    return read_by_airflow("retrain", tmp_path_factory.mktemp("airflow"), PARSED)


def test_the_file_is_imported_quickly_and_without_anything_heavy(tmp_path: Path) -> None:
    imported = read_by_airflow("retrain", tmp_path, WITH_OPERATOR + IMPORTED)

    assert imported["heavy"] == []
    assert imported["took_s"] < 1


def test_the_stages_follow_each_other_and_a_rejection_does_not_skip_the_end(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert {name: task["upstream"] for name, task in parsed["tasks"].items()} == {
        "snapshot": [],
        "train": ["snapshot"],
        "validate": ["train"],
        "gate": ["validate"],
        "approve": ["gate"],
        "promote": ["approve"],
        "close": ["gate", "promote", "snapshot", "train", "validate"],
    }
    assert parsed["tasks"]["close"]["rule"] == "all_done"


def test_the_gate_takes_no_value_that_a_user_of_airflow_can_write(parsed: dict[str, Any]) -> None:
    assert parsed["gate_takes"] == [[], {}]


def test_what_runs_models_uses_the_gpu(parsed: dict[str, Any]) -> None:
    on_gpu = {name for name, task in parsed["tasks"].items() if (task["pool"], task["queue"]) == ("gpu", "gpu")}
    assert on_gpu == {"train", "validate", "promote"}
    assert parsed["tasks"]["train"]["mapped"]


def test_only_approvers_are_asked_no_reason_is_suggested_and_silence_is_no_approval(
    parsed: dict[str, Any],
) -> None:
    assert parsed["approve"] == {
        "assigned": ["dr.a", "dr.b"],
        "defaults": None,
        "options": ["Approve", "Reject"],
        "hours": 2.5,
        "retries": 0,
        "form": {"reason": [None, "string"]},
    }


def test_the_form_has_sensible_defaults_and_refuses_invalid_values(parsed: dict[str, Any]) -> None:
    assert parsed["params"] == {
        "reason": None,
        "requested_by": None,
        "variants": [],
        "min_new_labels": 200,
        "base": "imagenet",
        "epochs": None,
        "seed": 0,
    }
    assert parsed["choice_removed"] is None
    assert set(parsed["refused"]) == {"variants", "min_new_labels", "base", "epochs", "seed", "reason"}


def test_the_dag_runs_weekly_by_default_and_only_by_hand_without_a_cron(parsed: dict[str, Any]) -> None:
    assert (parsed["schedule"], parsed["unscheduled"], parsed["catchup"]) == ("0 6 * * 6", "NullTimetable", False)
