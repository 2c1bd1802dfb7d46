"""Every service of the compose file runs on hosts made of namespaces: a night across them, roles, a backup."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from bloodcell.drawing.drops import make_drop
from bloodcell.service.airflow_api import NIGHTLY_RUN, RETRAIN
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from tests.fleet.fleet import DOCKER, LOGIN, USER, Fleet, waited
from tests.fleet.hosts import can_make_hosts
from tests.live_night import LiveNight

pytestmark = [
    pytest.mark.skipif(not can_make_hosts(), reason="hosts are made of namespaces: root and iproute2 are needed"),
    pytest.mark.timeout(900),
]
NIGHT = date(2026, 2, 2)
PLACED = {
    "server": ("postgres", "redis", "init", "api-server", "scheduler", "dag-processor", "triggerer", "watcher", "desk"),
    "box": ("worker",),
    "gpubox": ("cpu-worker",),
}
NOT_HERE = {
    "gpu-worker": "the cpu-worker with a GPU",
    "gpu-worker-1": "the cpu-worker with a second GPU",
    "prometheus": "not installed here",
    "grafana": "not installed here",
    "owner": "runs only when it is called",
    "orders": "needs an exchange file: test_exchange.py",
}


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drops = tmp_path_factory.mktemp("drops")
    drops.chmod(0o755)  # only this user may enter the folders that pytest makes
    return drops


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, drops: Path) -> Iterator[Fleet]:
    labels = tmp_path_factory.mktemp("labels")
    os.chown(labels, USER, USER)
    more = {"BLOODCELL_SETTLE_S": "0", "BLOODCELL_WATCH_INTERVAL_S": "1"}
    more |= {f"BLOODCELL_{what}_CRON": "" for what in ("NIGHTLY", "RETRAIN", "CHECK", "LABELS", "CLEAN", "VERIFY")}
    folder = tmp_path_factory.mktemp("fleet")
    folder.chmod(0o755)
    values = {"BLOODCELL_DROPS": str(drops), "BLOODCELL_LABELS": str(labels)}
    with Fleet(folder / "made", PLACED, values, more=more, mark="tests") as fleet:
        fleet.start_all()
        yield fleet


@pytest.fixture(scope="module")
def settings(fleet: Fleet) -> Settings:
    return fleet.settings()


def test_every_service_passes_its_own_health_check(fleet: Fleet) -> None:
    services = {name for names in PLACED.values() for name in names}
    assert services | NOT_HERE.keys() == fleet.services()
    for service in services - {"init"}:
        assert fleet.is_healthy(service), service


def test_the_desk_works_with_its_own_login_and_somebody_gets_in_by_a_link(fleet: Fleet, settings: Settings) -> None:
    logins = "SELECT DISTINCT usename FROM pg_stat_activity WHERE usename = 'bloodcell_desk_login'"
    link = fleet.run("desk", "bloodcell", "users", "add", "dr.a", "--role", "senior", "--link").strip()
    token = link.removeprefix("http://127.0.0.1:8090/enter/")
    host = str(settings.airflow_url).replace(":8080", ":8090")
    words = {"password": "four words that nobody guesses", "again": "four words that nobody guesses"}
    with httpx.Client(base_url=host, trust_env=False, headers={"Origin": "http://127.0.0.1:8090"}) as client:
        assert client.post(f"/enter/{token}", data=words).status_code == 303
        assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
    with connect(settings.plain_database_url or "").connect() as connection:
        assert list(connection.scalars(sa.text(logins))) == ["bloodcell_desk_login"]


def test_the_health_check_of_a_service_that_does_not_run_fails(fleet: Fleet) -> None:
    fleet.kill("watcher")
    fleet.run("watcher", "rm", "/var/lib/bloodcell/watcher.alive")
    assert not fleet.is_healthy("watcher")
    fleet.start("watcher")
    fleet.wait_for("watcher")


def test_running_init_again_changes_nothing(fleet: Fleet, settings: Settings) -> None:
    def users() -> list[dict[str, object]]:
        with httpx.Client(base_url=settings.airflow_url, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {_token(client, 'admin', fleet)}"}
            answer = client.get("/auth/fab/v1/users", headers=headers)
            return [
                {"username": user["username"], "roles": sorted(role["name"] for role in user["roles"])}
                for user in answer.json()["users"]
            ]

    before = users()
    assert {str(user["username"]): user["roles"] for user in before} == {
        "admin": ["Admin"],
        "watcher": ["Watcher"],
    }
    fleet.run("init")
    assert users() == before


def test_an_announced_night_is_ingested_on_one_host_and_classified_on_another(
    fleet: Fleet, settings: Settings, drops: Path
) -> None:
    make_drop(drops, night=NIGHT, n_slides=2, cells_per_slide=12, seed=3)
    laboratory = LiveNight(settings, NIGHT)
    reported = "SELECT count(*) FROM bloodcell.slide_status WHERE night = :night AND status = 'reported'"
    waited(lambda: laboratory.all(reported)[0][0] == 2, 400, "both slides are reported")
    rows = laboratory.rows()
    assert len(rows["cell_call"]) == 4 * 24
    hosts = {tuple(row) for row in laboratory.all("SELECT stage, host FROM bloodcell.run WHERE night = :night")}
    assert hosts == {
        ("ingest", "box"),
        ("classify", "gpubox"),
        ("check look", "gpubox"),
        ("quality", "box"),
        ("differential", "box"),
    }


def test_logs_of_tasks_are_json_and_name_the_slides_but_no_patient(fleet: Fleet, settings: Settings) -> None:
    slides = LiveNight(settings, NIGHT).all("SELECT barcode, patient_key FROM bloodcell.slide WHERE night = :night")
    files = list(fleet.volume("logs").glob(f"dag_id={NIGHTLY_RUN}/run_id=*/task_id=*/**/*.log"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    for task in ("classify", "differentials"):
        of_task = [line for line in lines if line.get("task_id") == task]
        for barcode, _ in slides:
            assert any(str(barcode) in line["event"] for line in of_task), f"{task}: {barcode}"
    said = [json.loads(line) for line in (fleet.logs / "watcher.log").read_text().splitlines() if line.startswith("{")]
    assert any(str(NIGHT) in line["event"] for line in said)
    lines += said
    assert not [line for line in lines for _, patient in slides if str(patient) in json.dumps(line)]


def test_a_worker_has_neither_the_url_of_airflows_database_nor_airflows_keys(fleet: Fleet) -> None:
    for worker in ("worker", "cpu-worker"):
        secrets = fleet.run(worker, "ls", "/run/secrets").split()
        assert sorted(secrets) == ["bloodcell_database_url", "redis_url", "s3_credentials"]
        assert fleet.run(worker, "id", "--user").strip() == str(USER)


def test_each_role_has_only_its_documented_rights(fleet: Fleet, settings: Settings) -> None:
    """As docker/README.md says: a pathologist sees runs, the watcher starts runs, and neither changes settings."""
    create = ["airflow", "users", "create", "--firstname", "A", "--lastname", "Doe", "--password", "secret-of-a"]
    fleet.run("api-server", *create, "--username", "dr.a", "--email", "dr.a@example.org", "--role", "Viewer")
    fleet.run("api-server", "airflow", "users", "add-role", "--username", "dr.a", "--role", "Pathologist")
    with httpx.Client(base_url=settings.airflow_url, trust_env=False) as client:
        person = {"Authorization": f"Bearer {_token(client, 'dr.a', fleet, 'secret-of-a')}"}
        watcher = {"Authorization": f"Bearer {_token(client, 'watcher', fleet)}"}
        run = {"logical_date": None, "conf": {"night": "2026-02-03"}}
        runs = f"/api/v2/dags/{NIGHTLY_RUN}/dagRuns"
        known = client.get(runs, headers=person).json()["dag_runs"][0]["dag_run_id"]
        assert client.post(runs, headers=person, json=run).status_code == 403
        again = client.post(runs, headers=watcher, json={**run, "dag_run_id": known})
        assert again.status_code == 409, "allowed, but this run was started before"
        question = f"/api/v2/dags/{RETRAIN}/dagRuns/none/taskInstances/approve/-1/hitlDetails"
        answer = {"chosen_options": ["Approve"], "params_input": {}}
        assert client.patch(question, headers=watcher, json=answer).status_code == 403
        assert client.patch(question, headers=person, json=answer).status_code == 404, "allowed, but nothing was asked"
        for headers in (person, watcher):
            assert client.patch("/api/v2/pools/gpu", headers=headers, json={"slots": 9}).status_code == 403
            assert client.get("/api/v2/connections", headers=headers).status_code == 403
        assert client.get(runs).status_code == 401


def test_backup_and_restore_by_the_documented_commands(fleet: Fleet, settings: Settings, tmp_path: Path) -> None:
    """Runs the README's own lines without `docker compose exec`. It is the last test, because it stops the fleet."""
    lines = [line.strip() for line in (DOCKER / "README.md").read_text().splitlines()]
    asked = [line.split("#")[0].split() for line in lines if line.startswith("docker compose exec -T postgres p")]
    assert [words[5] for words in asked] == ["pg_dumpall", "pg_dump", "pg_dump", "psql", "pg_restore", "pg_restore"]
    (tmp_path / "backup").mkdir(0o700)
    laboratory = LiveNight(settings, NIGHT)
    before = laboratory.rows()
    assert before["cell_call"]
    for service in ("watcher", "worker", "cpu-worker", "scheduler", "dag-processor", "triggerer", "desk", "api-server"):
        fleet.kill(service)
    for words in asked[:3]:
        _run_in_postgres(fleet, words, tmp_path)
    fleet.kill("postgres")
    fleet.empty("server-postgres")
    fleet.start_postgres()
    with pytest.raises(sa.exc.DBAPIError):
        laboratory.rows()
    for words in asked[3:]:
        _run_in_postgres(fleet, words, tmp_path)
    assert laboratory.rows() == before
    fleet.run("init")
    with connect(str(settings.plain_database_url)).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.promotion")) == 1


def _token(client: httpx.Client, user: str, fleet: Fleet, password: str | None = None) -> str:
    password = password or fleet.secret(f"{user}_password").read_text()
    answer = client.post("/auth/token", json={"username": user, "password": password})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["access_token"])


def _run_in_postgres(fleet: Fleet, words: list[str], folder: Path) -> None:
    """Runs `docker compose exec -T postgres COMMAND [<>] FILE` in the service."""
    *command, way, file = words[5:]
    logged_in = ["sh", "-c", f"{LOGIN}; {' '.join(command)}"]
    entered = fleet.host_of("postgres").command(fleet.entered("postgres", logged_in))
    with (folder / file).open("wb" if way == ">" else "rb") as stream:
        done = subprocess.run(
            entered,
            env=fleet.environment("postgres"),
            stdin=None if way == ">" else stream,
            stdout=stream if way == ">" else None,
            stderr=subprocess.PIPE,
            check=False,
        )
    # psql reports roles that already exist as errors, and keeps them
    assert done.returncode == 0, done.stderr.decode()[-2000:]
