"""The files of docker/ are valid by the schemas of their formats and agree with the code and with each other."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bloodcell.service.telemetry import NAMES
from bloodcell.settings import Settings
from tests.conftest import ROOT

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "env_file" in service}
"""Services that run bloodcell's own images."""


def test_compose_file_is_valid_by_the_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(DOCKER / "compose.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_limited_confined_and_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["deploy"]["resources"]["limits"].keys() >= {"memory"}
    if name != "init":
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "a service has to be behind the laboratory's TLS"


def test_the_script_makes_every_secret_and_each_is_used_by_a_service(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets.sh"
    script.write_text((DOCKER / "make-secrets.sh").read_text())
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert {entry["file"].removeprefix("secrets/") for entry in COMPOSE["secrets"].values()} == made.keys()
    assert len(set(made.values())) == len(made)
    assert all(len(value) >= 32 for value in made.values())
    named = {
        secret["source"] if isinstance(secret, dict) else secret
        for service in SERVICES.values()
        for secret in service.get("secrets", [])
    }
    assert named == made.keys()

    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    assert {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()} == made


def test_workers_have_neither_access_to_airflows_database_nor_its_keys() -> None:
    for name, service in OURS.items():
        if "celery" in service["command"]:
            assert service["secrets"] == ["bloodcell_database_url", "redis_url", "s3_credentials"], name
            assert ".invalid/" in service["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


def test_volumes_are_folders_of_the_images_that_their_user_can_write_to() -> None:
    made = re.search(r"install --directory --owner bloodcell .*?\n(?!\s)", (DOCKER / "Dockerfile").read_text(), re.S)
    assert made
    folders = {
        volume.split(":")[1]
        for service in OURS.values()
        for volume in service["volumes"]
        if volume.split(":")[0] in COMPOSE["volumes"]
    }
    assert folders == {"/var/lib/airflow/logs", "/var/lib/bloodcell/store", "/var/lib/bloodcell/training"}
    folders |= {"/var/lib/bloodcell/weights"}  # a volume unless a folder is named
    assert folders <= set(made[0].split()), "a new volume gets the owner that the folder has in the image"


@pytest.mark.parametrize("page", ["README.md", "kubernetes/README.md"])
def test_the_pages_build_and_start_this_release(page: str) -> None:
    named = re.findall(
        r"(?:bloodcell-[a-z-]+:|RELEASE=|^    BLOODCELL_VERSION=)([\d.]+\d)", (DOCKER / page).read_text(), re.M
    )
    assert set(named) == {importlib.metadata.version("bloodcell")}


def test_every_variable_of_the_fleet_is_a_setting() -> None:
    names = re.findall(r"^BLOODCELL_(\w+)=", (DOCKER / "airflow.env").read_text(), re.M)
    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_every_volume_and_network_is_declared_and_used() -> None:
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "$"))
    }
    used |= set(re.findall(r"\$\{BLOODCELL_WEIGHTS:-(\w+)\}", str(SERVICES)))
    assert used == COMPOSE["volumes"].keys()
    assert {name for service in SERVICES.values() for name in service["networks"]} == COMPOSE["networks"].keys()


def test_dashboard_and_alerts_use_the_figures_that_are_pushed() -> None:
    dashboard = json.loads((DOCKER / "monitoring" / "dashboards" / "bloodcell.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((DOCKER / "monitoring" / "alerts.yaml").read_text())["groups"][0]["rules"]
    expressions += [alert["expr"] for alert in alerts]
    pushed = {_in_prometheus(name, unit) for name, (unit, _) in NAMES.items()}
    assert {name for text in expressions for name in re.findall(r"bloodcell_\w+", text)} == pushed
    for alert in alerts:
        for query in re.findall(r"sql/queries/\S+\.sql", alert["annotations"]["action"]):
            assert (ROOT / query).is_file(), alert["alert"]


def _in_prometheus(name: str, unit: str) -> str:
    """The name that Prometheus gives to a gauge of OpenTelemetry."""
    ending = {"s": "_seconds", "1": "_ratio", "{cell}/s": "_per_second"}.get(unit, "")
    return "bloodcell_" + name.replace(".", "_") + ending
