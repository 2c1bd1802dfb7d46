"""The Dag file as Airflow reads it, and what its one task does on a real database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.dags.reading import IMPORTED, read_by_airflow
from tests.laboratory import Laboratory

PARSED = """
import json, os, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(Path(sys.argv[1]))
dag = bag.dags["import_labels"]

def schedule(cron):
    os.environ["BLOODCELL_LABELS_CRON"] = cron
    timetable = DagBag(Path(sys.argv[1])).dags["import_labels"].timetable
    return getattr(timetable, "expression", type(timetable).__name__)

policy = dag.get_task("inbox").retry_policy
from bloodcell import errors
decided = {
    name: policy.evaluate(getattr(errors, name)(""), 1, 5).action.value
    for name in ("ConfigurationError", "DatabaseUnavailableError", "RetryLaterError", "BloodcellError")
}
print(json.dumps({
    "errors": bag.import_errors,
    "schedule": dag.timetable.expression,
    "schedules": {cron: schedule(cron) for cron in ("0 * * * *", "")},
    "catchup": dag.catchup,
    "max_active_runs": dag.max_active_runs,
    "doc": dag.doc_md,
    "tasks": {task.task_id: {"pool": task.pool, "queue": task.queue, "retries": task.retries} for task in dag.tasks},
    "decided": decided,
}))
"""

RUN = """
import json, runpy, sys
from bloodcell.settings import Settings
import airflow.sdk
loaded = runpy.run_path(sys.argv[1])
inbox = loaded["inbox"].function
from types import SimpleNamespace
context = {
    "run_id": "manual__1",
    "dag": SimpleNamespace(dag_id="import_labels", params={}),
    "dag_run": SimpleNamespace(dag_id="import_labels", conf=None),
}
inbox.__globals__["get_current_context"] = lambda: context
from bloodcell.errors import ConfigurationError
try:
    print(json.dumps({"taken": inbox()}))
except ConfigurationError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The Dag as Airflow reads it from the file."""
    return read_by_airflow("import_labels", tmp_path_factory.mktemp("airflow"), PARSED)


def test_the_file_is_imported_quickly_and_without_anything_heavy(tmp_path: Path) -> None:
    imported = read_by_airflow("import_labels", tmp_path, IMPORTED)
    assert imported["heavy"] == []
    assert imported["took_s"] < 1


def test_the_file_parses_to_one_task_without_a_gpu(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert "Doing it again is safe" in parsed["doc"]
    assert parsed["tasks"] == {"inbox": {"pool": "default_pool", "queue": "default", "retries": 5}}


def test_a_dag_with_an_unknown_setting_is_an_import_error_that_names_it(tmp_path: Path) -> None:
    code = (
        "import json, sys; from airflow.dag_processing.dagbag import DagBag;"
        "print(json.dumps({'errors': list(DagBag(sys.argv[1]).import_errors.values())}))"
    )
    (error,) = read_by_airflow("import_labels", tmp_path, code, BLOODCELL_DROP_DIR="/srv")["errors"]
    assert "There is no setting BLOODCELL_DROP_DIR. Did you mean BLOODCELL_DROPS_DIR?" in error


def test_there_is_one_run_at_a_time_and_no_catch_up(parsed: dict[str, Any]) -> None:
    assert parsed["max_active_runs"] == 1
    assert parsed["catchup"] is False


def test_an_error_that_a_person_has_to_correct_is_not_retried(parsed: dict[str, Any]) -> None:
    assert parsed["decided"] == {
        "ConfigurationError": "fail",
        "DatabaseUnavailableError": "retry",
        "RetryLaterError": "retry",
        "BloodcellError": "default",
    }


def test_the_cron_is_a_setting_and_without_it_only_a_person_starts_a_run(parsed: dict[str, Any]) -> None:
    assert parsed["schedule"] == "*/30 * * * *"
    assert parsed["schedules"] == {"0 * * * *": "0 * * * *", "": "NullTimetable"}


def test_the_task_imports_the_inbox_and_fails_at_the_end_if_files_were_set_aside(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    laboratory = Laboratory(database)
    laboratory.cells(laboratory.slide("S1"), ["LY"] * 2, names=["0.jpg", "1.jpg"])
    header = "slide,file,label,labelled_by,labelled_at"
    settings.labels.mkdir(parents=True)
    environment = {
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
        "BLOODCELL_SETTLE_S": "0",
    }
    (settings.labels / "good.csv").write_text(f"{header}\nS1,0.jpg,SNE,anna,2026-03-15\n")
    assert read_by_airflow("import_labels", tmp_path, RUN, **environment) == {"taken": {"good.csv": 1}}

    (settings.labels / "a_bad.csv").write_text(f"{header}\nS9,0.jpg,SNE,anna,2026-03-15\n")
    (settings.labels / "b_good.csv").write_text(f"{header}\nS1,1.jpg,SNE,anna,2026-03-15\n")
    failed = read_by_airflow("import_labels", tmp_path, RUN, **environment)
    assert "[a_bad.csv] cells_missing: 1 of 1 rows: row 2: slide 'S9' is unknown" in failed["error"]
    assert laboratory.rows("SELECT file_name FROM bloodcell.cell_label ORDER BY 1") == [("0.jpg",), ("1.jpg",)]
    retried = read_by_airflow("import_labels", tmp_path, RUN, **environment)
    assert retried == failed
