"""From labels to a new champion through the real scheduler, with the answers given through the real API.

The tests share one running system and are in the order in which a laboratory would work. At the end the first model is
champion again, so that other tests find the system as they left it.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from bloodcell.cells.classes import class_of_code
from bloodcell.ingest import ingest_night
from bloodcell.login_limit import MAX_FAILURES, WINDOW_S
from bloodcell.registry.bundle import Bundle
from bloodcell.service.airflow_api import IMPORT_LABELS, RETRAIN, AirflowApi
from bloodcell.service.airflow_home import password_file
from bloodcell.service.airflow_plugin import OPEN_PAGES
from bloodcell.service.airflow_records import RunState
from bloodcell.service.airflow_session import AirflowRefusedError
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from tests.airflow_page import AirflowPage, forge_approval
from tests.api_servers import PASSWORD, fab_server
from tests.conftest import ROOT
from tests.reverse_proxy import NAME, Proxy, nginx, reverse_proxy
from tests.service.conftest import Up, free_port, write_night

pytestmark = pytest.mark.timeout(900)

APPROVE = "approve"
RUN_S = 300


@pytest.fixture
def admin(up: Up) -> Iterator[AirflowApi]:
    with AirflowApi(up.settings) as session:
        yield session


@pytest.fixture(scope="module")
def fab(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Flask AppBuilder with a user of the role Op, who may change everything but approve nothing."""
    log = tmp_path_factory.mktemp("fab") / "api-server.log"
    with fab_server(up.settings, free_port(), log, {"operator": "Op"}) as url:
        yield url


@pytest.fixture(scope="module")
def operator(fab: str) -> Iterator[AirflowPage]:
    with AirflowPage(fab, "operator", PASSWORD) as page:
        yield page


@pytest.fixture(scope="module")
def proxy(fab: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The documented nginx in front of that server."""
    if nginx() is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    with reverse_proxy(tmp_path_factory.mktemp("proxy"), free_port(), free_port(), airflow=fab) as started:
        yield started


@pytest.fixture(scope="module")
def night(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve slides of twelve patients, ingested from outside the drops folder so that the watcher ignores them."""
    folder = write_night(tmp_path_factory.mktemp("elsewhere"), "2026-04-01", slides=12, cells_per_class=3)
    ingest_night(folder, up.settings)
    write_labels(up.settings.labels / "first_ten.csv", folder, 0, 10)  # settled by the time it is imported
    return folder


def rows(settings: Settings, statement: str) -> list[dict[str, Any]]:
    with open_database(settings).connect() as connection:
        return [dict(row) for row in connection.execute(sa.text(statement)).mappings()]


def champion(settings: Settings) -> str:
    return str(rows(settings, "SELECT model_id FROM bloodcell.champion")[0]["model_id"])


def retraining(settings: Settings, run_id: str) -> dict[str, Any]:
    (row,) = rows(settings, f"SELECT * FROM bloodcell.retraining WHERE airflow_run = '{run_id}'")
    return row


def write_labels(path: Path, night: Path, first: int, last: int) -> int:
    """Writes a pathologist's labels for some slides, and returns how many there are."""
    slides = sorted(night.glob("*-*"), key=lambda slide: int(slide.name.rpartition("-")[2]))[first:last]
    images = [image for slide in slides for image in sorted(slide.iterdir())]
    now = datetime.now(UTC).isoformat()
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("slide", "file", "label", "labelled_by", "labelled_at", "blind"))
        for image in images:
            label = class_of_code(image.name.partition("_")[0])
            table.writerow((image.parent.name, image.name, label, "pathologist", now, 1))
    return len(images)


def started(api: AirflowApi, **conf: object) -> str:
    """Triggers a retraining that takes only seconds, because it starts warm from the small model of these tests."""
    small = {"variants": ["vgg16_svm"], "base": "champion", "min_new_labels": 1, "reason": "more labels"}
    return api.trigger(RETRAIN, conf=small | conf)


def asked(api: AirflowApi, run_id: str) -> RunState:
    """Returns the state of a run once it waits for a person."""
    run = api.wait(RETRAIN, run_id, timeout_s=RUN_S, for_a_person=False)
    assert run.waits_for_a_person, run
    return run


def states(run: RunState) -> dict[str, str | None]:
    return {task.task_id: task.state for task in run.tasks}


def command(up: Up, *arguments: str, user: str = "admin") -> subprocess.CompletedProcess[str]:
    return python(up, "-m", "bloodcell", *arguments, user=user)


def documented() -> tuple[str, str, str]:
    """Returns the documentation's Python for Airflow's REST API: log in, trigger, answer."""
    section = (ROOT / "docs" / "how-to" / "retrain.md").read_text().partition("## By REST\n")[2]
    log_in, trigger, answer = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return log_in, trigger, answer


def python(up: Up, *arguments: str, user: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "BLOODCELL_DATA_DIR": str(up.settings.data_dir),
        "BLOODCELL_AIRFLOW_URL": up.settings.airflow_url,
        "BLOODCELL_AIRFLOW_USER": user,
        "BLOODCELL_AIRFLOW_PASSWORD_FILE": str(password_file(up.settings)),
        "BLOODCELL_DATABASE_URL": str(up.settings.plain_database_url),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )


@pytest.mark.parametrize(
    "conf",
    [{"variants": ["resnet"]}, {"min_new_labels": -1}, {"epochs": 0}, {"base": "mine"}, {"seed": -1}, {"reason": " "}],
)
def test_an_invalid_form_is_refused_before_anything_runs(admin: AirflowApi, conf: dict[str, object]) -> None:
    with pytest.raises(AirflowRefusedError) as refused:
        started(admin, **conf)

    assert refused.value.status == 400


def test_a_retraining_with_too_few_labels_is_skipped_with_the_reason(up: Up, admin: AirflowApi, night: Path) -> None:
    done = command(up, "retrain", "--reason", "weekly", "--min-new-labels", "5000", "--by", "Dr. M", "--wait", "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 3, done.stderr
    assert document["page"] in done.stderr
    assert (document["state"], document["outcome"], document["waits_for"]) == ("success", "skipped", [])
    assert document["reason"].endswith("5,000 are needed (min_new_labels).")
    assert {task["state"] for task in document["tasks"] if task["task"] != "close"} == {"skipped"}
    row = retraining(up.settings, document["run_id"])
    assert (row["state"], row["requested_by"], row["reason"]) == ("skipped", "Dr. M", "weekly")
    assert "5,000 are needed" in row["state_reason"]


def test_the_documented_rest_calls_start_a_retraining(up: Up, night: Path) -> None:
    log_in, trigger, _ = documented()

    told = python(up, "-c", log_in + trigger, user="admin")

    assert told.returncode == 0, told.stderr
    run_id, state, note = told.stdout.split(maxsplit=2)
    row = retraining(up.settings, run_id)
    assert (state, row["state"], row["requested_by"]) == ("success", "skipped", "dr.m")
    assert note.strip() == f"skipped: {row['state_reason']}"
    assert row["reason"] == "after the stain was changed"
    assert "500 are needed" in row["state_reason"]


def test_a_file_in_the_inbox_becomes_labels(up: Up, admin: AirflowApi, night: Path) -> None:
    run = admin.wait(IMPORT_LABELS, admin.trigger(IMPORT_LABELS, conf={}), timeout_s=RUN_S)

    assert run.state == "success"
    assert admin.result(IMPORT_LABELS, run.run_id, "inbox") == {"first_ten.csv": 240}
    assert rows(up.settings, "SELECT count(*) AS n FROM bloodcell.current_label WHERE state = 'confirmed'") == [
        {"n": 240}
    ]


def test_a_forged_approval_of_an_open_question_leaves_the_champion_and_is_recorded(up: Up, admin: AirflowApi) -> None:
    before = champion(up.settings)
    run_id = started(admin, requested_by="pathologist")
    asked(admin, run_id)

    with AirflowPage.of(up.settings) as page:
        forge_approval(page, RETRAIN, run_id, "pathologist")
        page.mark_task(RETRAIN, run_id, APPROVE, "success")

    run = admin.wait(RETRAIN, run_id, timeout_s=RUN_S)
    assert (run.state, states(run)["promote"]) == ("failed", "failed")
    assert champion(up.settings) == before
    row = retraining(up.settings, run_id)
    assert (row["state"], row["decided_by"]) == ("failed", None)
    assert (row["requested_by"], row["triggered_by"]) == ("pathologist", "admin")
    (refused,) = rows(up.settings, f"SELECT * FROM bloodcell.run WHERE airflow_run = '{run_id}' AND stage = 'promote'")
    assert refused["state"] == "failed"
    assert "No person has approved" in refused["error"]
    with pytest.raises(AirflowRefusedError, match="no longer waits") as late:
        admin.answer_approval(RETRAIN, run_id, APPROVE, approve=True, reason="late")
    assert late.value.status == 409


def test_only_an_assigned_persons_approval_makes_a_champion_and_everything_is_recorded(
    up: Up, admin: AirflowApi, night: Path, up_bundle: Bundle, tmp_path: Path
) -> None:
    rejected = started(admin, seed=1)
    asked(admin, rejected)
    assert write_labels(tmp_path / "last_two.csv", night, 10, 12) == 48
    assert command(up, "labels", "import", str(tmp_path / "last_two.csv")).returncode == 0
    approved = started(admin, seed=2, requested_by="Dr. M")
    asked(admin, approved)
    question = admin.approval(RETRAIN, approved, APPROVE)
    assert question is not None
    assert question.assigned == ("pathologist",)
    assert "gates" in question.body

    with pytest.raises(
        AirflowRefusedError, match=r"'admin' may not answer.*these users may: pathologist"
    ) as not_assigned:
        admin.answer_approval(RETRAIN, approved, APPROVE, approve=True, reason="I am the administrator")
    assert not_assigned.value.status == 403
    told = command(up, APPROVE, rejected, "--reject", "--reason", "too few eosinophils", user="pathologist")
    assert (told.returncode, told.stdout) == (0, "Rejected by pathologist: the champion stays.\n"), told.stderr
    log_in, _, answer = documented()
    told = python(up, "-c", f"{log_in}run_id = {approved!r}\n{answer}", user="pathologist")
    assert told.returncode == 0, told.stderr
    again = command(up, APPROVE, approved, "--reject", "--reason", "no, wait", user="pathologist")
    assert again.returncode == 1
    assert "answered already: Approve, by pathologist" in again.stderr

    ended = {run_id: admin.wait(RETRAIN, run_id, timeout_s=RUN_S) for run_id in (rejected, approved)}
    assert (ended[rejected].state, states(ended[rejected])["promote"]) == ("success", "skipped")
    assert set(states(ended[approved]).values()) == {"success"}
    no, yes = retraining(up.settings, rejected), retraining(up.settings, approved)
    assert (no["state"], no["decided_by"], no["decision_reason"]) == ("rejected", "pathologist", "too few eosinophils")
    assert (yes["state"], yes["requested_by"], yes["champion_id"]) == ("promoted", "Dr. M", up_bundle.model_id)
    assert yes["triggered_by"] == "admin"
    newest = rows(up.settings, "SELECT * FROM bloodcell.model_history ORDER BY promotion_id DESC LIMIT 1")[0]
    assert (newest["model_id"], newest["promoted_by"]) == (yes["model_id"], "pathologist")
    assert newest["reason"] == "better on 1,500 hold-out cells"
    evidence = newest["evidence"]
    assert evidence["training_run_id"] == str(yes["training_run_id"])
    assert evidence["approval"]["at"].startswith(newest["promoted_at"].strftime("%Y-%m-%d"))
    assert all(gate["passed"] for gate in evidence["gates"])


def test_an_operator_of_flask_appbuilder_cannot_turn_a_rejection_into_an_approval(
    up: Up, admin: AirflowApi, operator: AirflowPage, night: Path
) -> None:
    before = champion(up.settings)
    (rejected,) = rows(up.settings, "SELECT * FROM bloodcell.retraining WHERE state = 'rejected'")
    run_id = rejected["airflow_run"]

    forge_approval(operator, RETRAIN, run_id, "pathologist")
    operator.clear_task(RETRAIN, run_id, APPROVE)
    asked_again = admin.wait(RETRAIN, run_id, timeout_s=RUN_S)
    forge_approval(operator, RETRAIN, run_id, "pathologist")
    operator.mark_task(RETRAIN, run_id, APPROVE, "success")
    operator.clear_task(RETRAIN, run_id, "promote")
    promoted = admin.wait(RETRAIN, run_id, timeout_s=RUN_S)

    assert (states(asked_again)[APPROVE], states(promoted)["promote"]) == ("failed", "failed")
    assert champion(up.settings) == before
    assert retraining(up.settings, run_id) == rejected
    (refused,) = rows(up.settings, f"SELECT * FROM bloodcell.run WHERE airflow_run = '{run_id}' AND stage = 'promote'")
    assert "The answer is 'Reject'" in refused["error"]
    (question,) = rows(up.settings, f"SELECT * FROM bloodcell.model_approval WHERE model_id = '{rejected['model_id']}'")
    assert (question["decision"], question["answered_by"]) == ("Reject", "pathologist")


def test_the_documentation_of_the_api_is_not_open(up: Up, fab: str) -> None:
    with httpx.Client(trust_env=False) as client:
        for server in (up.settings.airflow_url, fab):
            assert client.get(f"{server}/api/v2/version").is_success
            answers = {page: client.get(f"{server}{page}").status_code for page in sorted(OPEN_PAGES)}
            assert set(answers.values()) == {404}, answers


def test_only_a_few_wrong_passwords_are_answered(up: Up, fab: str, operator: AirflowPage) -> None:
    with httpx.Client(base_url=fab, trust_env=False) as client:
        wrong = {"username": "operator", "password": "guessed"}
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda _: client.post("/auth/token", json=wrong).status_code, range(100)))
        assert Counter(answers) == {401: MAX_FAILURES, 429: 100 - MAX_FAILURES}
        refused = client.post("/auth/token", json=wrong | {"password": PASSWORD})
        assert (refused.status_code, 0 < int(refused.headers["retry-after"]) <= WINDOW_S) == (429, True)
    (newest, *_) = rows(up.settings, "SELECT airflow_run FROM bloodcell.training_run")
    operator.write_note(RETRAIN, newest["airflow_run"], "who is logged in already is not affected")


def log_in(client: httpx.Client, password: str) -> httpx.Response:
    return client.post("/auth/token", json={"username": "operator", "password": password})


def test_behind_the_proxy_a_strangers_failures_lock_out_only_the_stranger(proxy: Proxy) -> None:
    with (
        proxy.client("127.0.0.2") as stranger,
        proxy.client("127.0.0.3") as colleague,
        ThreadPoolExecutor(16) as threads,
    ):
        answers = list(threads.map(lambda _: log_in(stranger, "guessed").status_code, range(MAX_FAILURES + 1)))
        assert Counter(answers) == {401: MAX_FAILURES, 429: 1}
        assert log_in(stranger, PASSWORD).status_code == 429
        assert log_in(colleague, PASSWORD).status_code == 201


@pytest.mark.parametrize(
    ("own", "claimed"),
    [
        ("127.0.0.6", "{n}.0.0.9"),
        ("127.0.0.7", "127.0.0.1"),
        ("127.0.0.8", "{n}.0.0.9, 127.0.0.1"),
        ("127.0.0.9", "2001:db8:{n}::1"),
    ],
)
def test_a_client_cannot_claim_to_have_another_address(proxy: Proxy, fab: str, own: str, claimed: str) -> None:
    def fail(n: int) -> int:
        with proxy.client(own, claimed.format(n=n)) as client:
            return log_in(client, "guessed").status_code

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(fail, range(1, MAX_FAILURES + 2)))
    assert Counter(answers) == {401: MAX_FAILURES, 429: 1}
    # nor does it help to go past the proxy
    transport = httpx.HTTPTransport(local_address=own)
    with httpx.Client(base_url=fab, transport=transport, headers={"X-Forwarded-For": "127.0.0.10"}) as client:
        assert log_in(client, "guessed").status_code == 429


def test_the_proxy_limits_log_ins_and_closes_pages_before_they_reach_airflow(proxy: Proxy) -> None:
    with proxy.client("127.0.0.5") as client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: log_in(client, PASSWORD), range(30)))
        assert {answer.status_code for answer in answers} == {201, 429}
        assert sum("nginx" in answer.text for answer in answers) > 10
        for page in (*OPEN_PAGES, "/execution/task-instances/none/state", "/execution//docs", "/auth/%64ocs"):
            assert client.get(page).status_code == 404, page
        login = client.get("/auth/login/")
        assert login.is_success
        assert login.headers["strict-transport-security"] == "max-age=31536000"
    plain = httpx.get(f"http://127.0.0.1:{proxy.plain_port}/dags", trust_env=False)
    assert (plain.status_code, plain.headers["location"]) == (308, f"https://{NAME}/dags")


def test_a_rollback_restores_the_old_champion_and_the_history_has_both(up: Up, up_bundle: Bundle) -> None:
    told = command(up, "models", "rollback", "--reason", "found a weakness", "--by", "Dr. M")

    assert told.returncode == 0, told.stderr
    assert champion(up.settings) == up_bundle.model_id
    history = rows(up.settings, "SELECT action, promoted_by FROM bloodcell.model_history ORDER BY promotion_id")
    assert [tuple(row.values()) for row in history] == [
        ("promote", "tests"),
        ("promote", "pathologist"),
        ("rollback", "Dr. M"),
    ]
