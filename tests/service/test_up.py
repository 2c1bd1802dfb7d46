"""The whole system as a person starts it: a real scheduler, real tasks, and a real Postgres that is killed.

The tests share one running system and follow the course of a night; each works on a night of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from bloodcell.environment import STACK_MARK
from bloodcell.inference.quiet_start import has_nvidia_gpu
from bloodcell.registry.bundle import Bundle
from bloodcell.removal import erase
from bloodcell.resources import dag_ids
from bloodcell.results.stored_result import read_result
from bloodcell.service.airflow_api import NIGHTLY_RUN, RETRAIN, AirflowApi
from bloodcell.service.airflow_home import read_password
from bloodcell.service.airflow_records import RunState
from bloodcell.service.airflow_session import AirflowRefusedError
from bloodcell.service.cleaning import clean
from bloodcell.service.doctor import examine
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import AIRFLOW_DATABASE, embedded_database
from bloodcell.storage.store import Store
from tests.live_night import (
    LiveNight,
    classify_task,
    differences,
    postmaster_pid,
    run_night,
    run_night_and_kill_task,
)
from tests.service.conftest import Up, write_night

pytestmark = pytest.mark.timeout(900)

NIGHT, NAMED_NIGHT, EMPTY_NIGHT = date(2026, 3, 14), date(2026, 3, 15), date(2026, 3, 16)
CELLS = 32  # two slides of sixteen


@pytest.fixture
def api(up: Up) -> Iterator[AirflowApi]:
    with AirflowApi(up.settings) as session:
        yield session


def until(is_true: Callable[[], object], timeout_s: float = 120) -> None:
    """Waits until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.2)


def watched_run(settings: Settings, api: AirflowApi, night: date) -> RunState:
    """Waits for the end of the run that the watcher started for a night."""
    from bloodcell.inbox.night_folders import completed_state

    state = completed_state(settings.drops / night.isoformat(), settings.settle_s)
    run_id = f"watch__{night}__{state}"

    def is_there() -> bool:
        try:
            return bool(api.run_state(NIGHTLY_RUN, run_id))
        except AirflowRefusedError:
            return False

    until(is_there)
    return api.wait(NIGHTLY_RUN, run_id, timeout_s=300)


def test_address_user_and_password_are_printed(up: Up) -> None:
    printed = up.printed.read_text()

    assert up.settings.airflow_url in printed
    assert f"password {read_password(up.settings)}" in printed


def test_an_approver_is_printed_with_the_password_file_and_without_the_password(up: Up) -> None:
    passwords = up.settings.data_dir / "airflow" / "passwords.json"

    assert f"Approvers  pathologist   their passwords are in {passwords}" in up.printed.read_text()
    assert read_password(up.settings.model_copy(update={"airflow_user": "pathologist"})) not in up.printed.read_text()


def test_every_program_listens_on_this_machine_only(up: Up) -> None:
    listening = {
        connection.laddr.ip
        for _, connections in up.ask(psutil.Process.net_connections)
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    }
    postgres = psutil.Process(postmaster_pid(up.settings)).net_connections(kind="inet")

    assert listening == {"127.0.0.1"}
    assert postgres == []


def test_no_secret_is_in_a_log_or_on_a_command_line(up: Up) -> None:
    home = up.settings.data_dir / "airflow"
    secrets = [*json.loads((home / "secrets.json").read_text()).values()]
    secrets += json.loads((home / "passwords.json").read_text()).values()
    assert len(secrets) == 5
    logs = [path for folder in (up.settings.data_dir / "logs", home / "logs") for path in folder.rglob("*.log")]
    texts = [path.read_text(errors="replace") for path in logs]
    texts += [" ".join(line) for _, line in up.ask(psutil.Process.cmdline)]

    assert len(logs) >= 4
    assert not [secret for secret in secrets for text in texts if secret in text]


def test_the_pool_exists_and_every_dag_is_ready(api: AirflowApi) -> None:
    assert api.pool_slots("gpu") == 1
    assert {NIGHTLY_RUN, RETRAIN} <= set(dag_ids())
    assert api.dags() == dict.fromkeys(dag_ids(), False)
    assert api.import_errors() == {}


def test_making_the_pool_again_keeps_the_slots_that_a_person_set(api: AirflowApi) -> None:
    set_slots(api, 2)

    api.make_pool("gpu", 1, "again")

    assert api.pool_slots("gpu") == 2
    set_slots(api, 1)


def test_a_dropped_night_becomes_differentials_without_any_action_by_a_person(up: Up, api: AirflowApi) -> None:
    write_night(up.settings.drops, NIGHT.isoformat())

    run = watched_run(up.settings, api, NIGHT)

    assert {task.task_id: task.state for task in run.tasks} == dict.fromkeys(
        ("ingest", "plan", "classify", "quality_control", "differentials", "report"), "success"
    )
    rows = LiveNight(up.settings, NIGHT).rows()
    assert len(rows["cell_call"]) == CELLS
    assert len(rows["slide_report"]) == 2
    read = read_result(open_database(up.settings), "20260314-0")
    assert read.is_reported
    assert read.differential.n_cells == 16
    assert read.agreement.value is not None
    assert read.agreement.value > 0.5
    assert f"## Night {NIGHT}" in api.result(NIGHTLY_RUN, run.run_id, "report")
    page = up.settings.data_dir / "summaries" / f"{NIGHT}.html"
    assert "20260314-0" in page.read_text()
    assert note(api, run.run_id).startswith(f"Night {NIGHT}: 2 slides, 0 waiting, ")
    assert note(api, run.run_id).endswith(str(page))
    (log,) = (up.settings.data_dir / "airflow" / "logs").rglob(f"run_id={run.run_id}/task_id=classify/**/*.log")
    assert has_nvidia_gpu() or "cuda" not in log.read_text().lower()


def test_what_the_watcher_announces_is_printed(up: Up) -> None:
    until(lambda: f"Night {NIGHT} is complete: run watch__{NIGHT}__" in up.printed.read_text())
    assert "Watching " in up.printed.read_text()


def test_the_doctor_finds_nothing_wrong_with_a_running_system(up: Up) -> None:
    found = {finding.check: (finding.status, finding.detail) for finding in examine(up.settings)}

    not_ok = {check: what for check, what in found.items() if what[0] != "ok"}
    assert not not_ok.keys() - {"disk space"}
    assert {"champion", "pool", "dags", "watcher"} <= found.keys()


def test_repeating_a_night_after_a_killed_scheduler_has_no_shards_and_leaves_the_same_rows(
    up: Up, api: AirflowApi
) -> None:
    laboratory = LiveNight(up.settings, NIGHT)
    before = laboratory.rows()
    up.program("scheduler", "--skip-serve-logs").kill()
    until(lambda: "scheduler ended (signal SIGKILL), starting it again in" in up.printed.read_text())

    run = run_night(api, NIGHT)

    states = {task.task_id: task.state for task in run.tasks}
    assert run.state == "success"
    assert (states["classify"], states["differentials"], states["report"]) == ("skipped", "success", "success")
    assert laboratory.rows() == before


def test_a_slide_can_be_classified_again_by_its_barcode(up: Up, api: AirflowApi) -> None:
    laboratory = LiveNight(up.settings, NIGHT)
    before = laboratory.rows()

    run_id = api.trigger(NIGHTLY_RUN, conf={"slides": ["20260314-1"], "redo": True})
    run = api.wait(NIGHTLY_RUN, run_id, timeout_s=300)

    assert run.state == "success"
    assert (
        api._json(
            "GET",
            f"/api/v2/dags/{NIGHTLY_RUN}/dagRuns/{run_id}/taskInstances/classify/xcomEntries/return_value",
            params={"map_index": 0},
        )["value"]
        == 16
    )
    assert differences(before, laboratory.rows()) == []


def test_an_empty_night_succeeds_with_a_summary(up: Up, api: AirflowApi) -> None:
    folder = up.settings.drops / EMPTY_NIGHT.isoformat()
    folder.mkdir()
    (folder / ".complete").touch()

    run = watched_run(up.settings, api, EMPTY_NIGHT)

    assert run.state == "success"
    assert f"## Night {EMPTY_NIGHT}" in api.result(NIGHTLY_RUN, run.run_id, "report")
    assert note(api, run.run_id).startswith(f"Night {EMPTY_NIGHT}: 0 slides, 0 waiting, ")


@pytest.mark.parametrize(
    "conf", [{"night": "yesterday"}, {"redo": "perhaps"}, {"models": ["champion!"]}, {"slides": "S1"}]
)
def test_bad_parameters_are_refused_before_anything_runs(api: AirflowApi, conf: dict[str, object]) -> None:
    with pytest.raises(AirflowRefusedError) as refused:
        api.trigger(NIGHTLY_RUN, conf=conf)

    assert refused.value.status == 400


def test_a_night_that_does_not_exist_fails_at_once_and_says_why(up: Up, api: AirflowApi) -> None:
    run = run_night(api, date(1999, 12, 31))

    tasks = {task.task_id: task for task in run.tasks}
    assert (run.state, tasks["ingest"].state, tasks["ingest"].try_number) == ("failed", "failed", 1)
    # there is nothing to check, and what was not read is not added up
    assert (tasks["quality_control"].state, tasks["differentials"].state) == ("success", "upstream_failed")
    logs = (up.settings.data_dir / "airflow" / "logs").rglob(f"run_id={run.run_id}/task_id=ingest/*.log")
    assert any("1999-12-31" in path.read_text() for path in logs)


def test_a_killed_classify_task_is_retried_and_leaves_the_same_rows(up: Up, api: AirflowApi) -> None:
    laboratory = LiveNight(up.settings, NIGHT)
    expected = laboratory.rows()
    laboratory.forget_calls()

    run = run_night_and_kill_task(api, NIGHT, after_s=1)

    assert run.state == "success"
    assert max(task.try_number for task in run.tasks if task.task_id == "classify") == 2
    assert differences(expected, laboratory.rows()) == []


def test_a_failed_shard_leaves_the_run_red_and_the_other_slides_are_added_up(
    up: Up, api: AirflowApi, up_bundle: Bundle
) -> None:
    laboratory = LiveNight(up.settings, NIGHT)
    expected = laboratory.rows()
    laboratory.forget_calls()
    model = Store.of(up.settings).bundle_folder(up_bundle.model_id) / "model.keras"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])

    run = run_night(api, NIGHT)

    assert (run.state, {task.task_id: task.state for task in run.tasks}) == (
        "failed",
        {
            "ingest": "success",
            "plan": "success",
            "classify": "failed",
            "quality_control": "success",
            "differentials": "success",
            "report": "upstream_failed",
        },
    )
    model.write_bytes(whole)
    assert run_night(api, NIGHT).state == "success"
    assert differences(expected, laboratory.rows()) == []


def test_after_a_killed_postgres_the_night_is_finished(up: Up, api: AirflowApi) -> None:
    laboratory = LiveNight(up.settings, NIGHT)
    expected = laboratory.rows()
    laboratory.forget_calls()
    before = postmaster_pid(up.settings)
    run_id = api.trigger(NIGHTLY_RUN, conf={"night": NIGHT.isoformat()})
    classify_task(api, run_id)

    os.kill(before, signal.SIGKILL)

    assert api.wait(NIGHTLY_RUN, run_id, timeout_s=600).state == "success"
    assert postmaster_pid(up.settings) != before
    assert "Postgres ended and was started again" in up.printed.read_text()
    assert differences(expected, laboratory.rows()) == []


def test_airflow_keeps_no_name_of_an_erased_slide(up: Up, api: AirflowApi) -> None:
    """Its tables (forms, XComs, notes) and logs named the slide, and lose the name; the other slide's name stays."""
    barcode, other = "20260314-1", "20260314-0"
    run_id = api.trigger(NIGHTLY_RUN, conf={"slides": [barcode, other], "redo": True})
    assert api.wait(NIGHTLY_RUN, run_id, timeout_s=300).state == "success"
    api._json(
        "PATCH", f"/api/v2/dags/{NIGHTLY_RUN}/dagRuns/{run_id}",
        json={"note": f"repeated for {barcode}"}, params={"update_mask": "note"},
    )  # fmt: skip
    database = embedded_database(up.settings)
    named = named_in(database.url(AIRFLOW_DATABASE), barcode)
    assert {"dag_run", "dag_run_note", "xcom", "log"} <= named
    assert named_logs(up.settings, barcode)

    done = erase(up.settings, "slide", barcode, reason="test")

    assert done.removed["texts in Airflow's tables"] >= 4
    assert named_in(database.url(AIRFLOW_DATABASE), barcode) == set()
    assert named_logs(up.settings, barcode) == []
    assert named_in(database.url(AIRFLOW_DATABASE), other) >= {"dag_run", "xcom"}
    assert named_logs(up.settings, other)
    assert run_night(api, NIGHT).state == "success"  # the drop still has the slide
    assert named_in(database.url(), barcode) == set()


def test_airflows_old_rows_are_removed_by_the_dag_and_by_hand(up: Up, api: AirflowApi) -> None:
    run_id = api.trigger("clean", conf={})  # within a task, Airflow hides its database
    assert api.wait("clean", run_id, timeout_s=300).state == "success"
    assert api.result("clean", run_id, "remove_old") == {"airflow": 0}
    url = embedded_database(up.settings).url(AIRFLOW_DATABASE)
    with connect(url).begin() as connection:
        old = "SET start_date = start_date - interval '30 days' WHERE dag_id = 'nightly_run'"
        n_old = connection.exec_driver_sql(f"UPDATE dag_run {old}").rowcount
        connection.exec_driver_sql(f"UPDATE task_instance {old}")
    settings = up.settings.model_copy(update={"keep_airflow_days": 7})

    assert {each.part: each.n for each in clean(settings, dry_run=True).removed}["airflow"] == n_old
    done = {each.part: each for each in clean(settings).removed}

    assert done["airflow"].n >= n_old - 1  # the newest run of a Dag stays
    with connect(url).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM dag_run WHERE dag_id = 'nightly_run'").scalar_one() <= 1
    assert run_night(api, NIGHT).state == "success"


def test_nothing_that_it_writes_is_open_to_another_user(up: Up) -> None:
    data = up.settings.data_dir
    # the test wrote into the inboxes; Postgres belongs to another user if root started it, and closes its folder
    left_out = (up.settings.drops, up.settings.labels, data / "postgres")
    assert (data / "postgres").stat().st_mode & 0o077 == 0
    written = [path for path in data.rglob("*") if not any(path.is_relative_to(folder) for folder in left_out)]
    assert {path.relative_to(data).parts[0] for path in written} >= {"airflow", "logs", "store", "up.lock"}
    assert [path for path in written if not path.is_symlink() and path.lstat().st_mode & 0o077] == []


def test_a_second_up_on_the_same_data_is_refused(up: Up) -> None:
    refused = again(up, "BLOODCELL_DATA_DIR", str(up.settings.data_dir))

    assert refused.returncode == 1
    assert "already running" in refused.stderr


def test_the_error_for_a_used_port_names_the_port_and_says_what_to_do(up: Up, tmp_path: object) -> None:
    refused = again(up, "BLOODCELL_DATA_DIR", f"{tmp_path}/other")

    port = up.settings.airflow_url.rpartition(":")[2]
    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in refused.stderr
    assert "--port" in refused.stderr


def test_ctrl_c_stops_every_process_even_a_hanging_one(up: Up) -> None:
    postgres = psutil.Process(postmaster_pid(up.settings))
    embedded_database(up.settings).stop()  # which these tests have used, too
    with frozen(up.program("dag-processor")):
        assert up.stop(signal.SIGINT) == 0

    assert up.processes() == []
    assert not postgres.is_running() or postgres.status() == psutil.STATUS_ZOMBIE


def named_in(url: str, name: str) -> set[str]:
    """Returns the tables of a database in which a name occurs."""
    with connect(url).connect() as connection:
        inspector = sa.inspect(connection)
        schemas = [schema for schema in inspector.get_schema_names() if schema in ("public", "bloodcell")]
        tables = [(schema, table) for schema in schemas for table in inspector.get_table_names(schema)]
        found = sa.text("strpos(r::text, :name) > 0")
        return {
            table
            for schema, table in tables
            if connection.scalar(
                sa.select(sa.func.count()).select_from(sa.text(f'"{schema}"."{table}" r')).where(found), {"name": name}
            )
        }


def named_logs(settings: Settings, name: str) -> list[Path]:
    """Returns the logs in which a name occurs."""
    paths = [path for folder in ("logs", "airflow/logs") for path in (settings.data_dir / folder).rglob("*.log")]
    return [
        path for path in [*paths, settings.data_dir / "postgres" / "log"] if name in path.read_text(errors="replace")
    ]


def note(api: AirflowApi, run_id: str) -> str:
    """Returns the note of a nightly run."""
    return str(api._json("GET", f"/api/v2/dags/{NIGHTLY_RUN}/dagRuns/{run_id}")["note"])


def set_slots(api: AirflowApi, n: int) -> None:
    """Sets the slots of the pool as a person would on Airflow's page."""
    body = {"pool": "gpu", "slots": n, "include_deferred": False}
    api._json("PATCH", "/api/v2/pools/gpu", json=body, params={"update_mask": "slots"})


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """A process that reacts only to SIGKILL."""
    process.suspend()
    yield


def again(up: Up, name: str, value: str) -> subprocess.CompletedProcess[str]:
    """Starts another `bloodcell up` on the same port."""
    environment = {key: text for key, text in os.environ.items() if key != STACK_MARK}
    return subprocess.run(
        [sys.executable, "-m", "bloodcell", "up", "--port", up.settings.airflow_url.rpartition(":")[2]],
        env={**environment, name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
