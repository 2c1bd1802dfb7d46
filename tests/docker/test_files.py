"""The files of docker/ are valid by the schemas of their formats and agree with the code and with each other."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from bloodcell.review.guards import MAX_BODY_BYTES
from bloodcell.service.telemetry import NAMES
from bloodcell.settings import Settings
from tests.conftest import ROOT

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "env_file" in service}
"""Services that run bloodcell's own images."""
RUN_ONCE = {"init", "owner"}
"""Services that end when their command has ended."""
OVERLAYS: dict[str, Any] = {file.name: yaml.safe_load(file.read_text()) for file in DOCKER.glob("compose.*.yaml")}
OF_SITE = ("compose.exchange.yaml", "compose.rules.yaml", "compose.quality.yaml")
"""Files with which services see files of the site: test_exchange_services.py."""
OF_LOG_IN = {"compose.ldap.yaml": "ldap", "compose.oidc.yaml": "oidc"}
"""File -> how people log in to the review desk with it."""
KEYS = {
    *("cap_drop", "command", "depends_on", "deploy", "env_file", "environment", "healthcheck", "image", "init"),
    *("logging", "networks", "pids_limit", "ports", "profiles", "read_only", "restart", "secrets", "security_opt"),
    *("shm_size", "stop_grace_period", "tmpfs", "user", "volumes"),
}
"""What a service may say; `privileged`, `cap_add`, `devices`, `pid`, `ipc`, `network_mode` ... are not among it."""


def test_compose_files_are_valid_by_the_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    files = [str(DOCKER / name) for name in ("compose.yaml", *OVERLAYS)]
    done = subprocess.run([*check, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_limited_confined_and_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service.keys() <= KEYS
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert 0 < service["pids_limit"] <= 4096
    assert service["deploy"]["resources"]["limits"].keys() >= {"memory"}
    assert name in OURS or service["user"].split(":")[0] not in ("0", "root"), "our own images name their user"
    if name not in RUN_ONCE:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "a service has to be behind the laboratory's TLS"


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_writes_in_memory_is_limited_and_cannot_be_executed(name: str) -> None:
    folders = dict(entry.split(":") for entry in SERVICES[name]["tmpfs"])
    assert "/tmp" in folders  # noqa: S108 - of the container
    for folder, options in folders.items():
        assert {"noexec", "nosuid", "nodev"} <= set(options.split(",")), folder
        assert re.search(r"(?:^|,)size=\d+[mg]", options), folder
    if name in OURS:
        assert folders.keys() >= {"/var/lib/airflow", "/var/lib/bloodcell"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_change_no_file_of_the_server_and_reach_no_engine(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.rpartition(":/")[0] if not volume.endswith(":ro") else ""
        assert source in COMPOSE["volumes"] or source in ("", "${BLOODCELL_WEIGHTS:-weights}"), volume
        assert "docker.sock" not in volume


def test_no_service_can_reach_anything_outside_unless_the_site_says_so() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    masquerading = COMPOSE["networks"]["front"]["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"]
    assert masquerading == "false"
    for name, service in SERVICES.items():
        assert service["networks"] == (["inside", "front"] if "ports" in service else ["inside"]), name
    assert OVERLAYS["compose.outside.yaml"]["services"].keys() == {*OURS, "prometheus", "grafana"}


@pytest.mark.parametrize("name", sorted(OVERLAYS.keys() - OF_LOG_IN - set(OF_SITE)))
def test_the_files_for_more_machines_change_only_networks_and_where_data_are(name: str) -> None:
    for service in OVERLAYS[name].get("services", {}).values():
        assert service.keys() <= {"networks", "ports", "extra_hosts"}


@pytest.mark.parametrize("name", OF_LOG_IN)
def test_the_files_for_accounts_of_the_laboratory_give_the_desk_its_secret_and_nothing_else(name: str) -> None:
    (service,) = OVERLAYS[name]["services"].items()
    assert service[0] == "desk"
    assert service[1].keys() == {"environment", "secrets"}
    environment = service[1]["environment"]
    assert environment["BLOODCELL_DESK_LOGIN"] == OF_LOG_IN[name]
    assert environment["BLOODCELL_DESK_CA_FILE"].removeprefix("/run/secrets/") in service[1]["secrets"]
    (password,) = set(service[1]["secrets"]) - {"desk_ca"}
    assert password.removeprefix("bloodcell_") in Settings.model_fields
    assert OVERLAYS[name]["secrets"] == {each: {"file": f"secrets/{each}"} for each in service[1]["secrets"]}


def test_only_the_proxy_of_the_server_says_who_its_client_is() -> None:
    """With "*", Airflow and the desk would believe what the client itself wrote first into X-Forwarded-For."""
    outside = OVERLAYS["compose.outside.yaml"]["networks"]["outside"]
    gateways = [network["ipam"]["config"][0]["gateway"] for network in (COMPOSE["networks"]["front"], outside)]
    assert SERVICES["api-server"]["environment"]["FORWARDED_ALLOW_IPS"] == ",".join(gateways)
    assert SERVICES["desk"]["environment"]["BLOODCELL_DESK_PROXY"] == ",".join(gateways)


def test_the_way_out_is_the_first_network_by_name_and_does_not_overlap_the_other() -> None:
    """Docker takes a service's way out from the first of its networks by name; `front` translates no addresses."""
    outside = OVERLAYS["compose.outside.yaml"]["networks"]["outside"]
    assert outside["name"].replace("${COMPOSE_PROJECT_NAME:-bloodcell}", "bloodcell") < "bloodcell_front"
    subnets = [
        ip_network(network["ipam"]["config"][0]["subnet"].replace("${BLOODCELL_FRONT:-172.31.254}", "172.31.254"))
        for network in (COMPOSE["networks"]["front"], outside)
    ]
    assert not subnets[0].overlaps(subnets[1])
    assert subnets[1].num_addresses > len(SERVICES) + 3


def test_the_desk_has_a_login_of_its_own_and_only_reads_the_store() -> None:
    desk = SERVICES["desk"]
    assert desk["secrets"] == [
        {"source": "bloodcell_desk_url", "target": "bloodcell_database_url"},
        "s3_credentials",
    ]
    assert desk["volumes"] == ["desk:/var/lib/bloodcell/desk", "store:/var/lib/bloodcell/store:ro"]
    users = {name for name, service in SERVICES.items() if "bloodcell_desk_url" in str(service.get("secrets"))}
    assert users == {"desk"}
    assert desk["environment"].keys() == {"BLOODCELL_DESK_PROXY"}, "none of Airflow's database"


def test_the_desk_listens_where_its_check_and_its_proxy_expect_it() -> None:
    port = urlsplit(Settings.model_fields["desk_url"].default).port
    assert SERVICES["desk"]["ports"] == [f"127.0.0.1:${{BLOODCELL_DESK_PORT:-{port}}}:{port}"]
    assert f"_DESK_PORT = {port}\n" in (DOCKER / "healthy.py").read_text()
    assert f"proxy_pass http://127.0.0.1:{port};" in (DOCKER / "nginx.conf").read_text()


def test_the_proxy_accepts_the_bodies_that_the_desk_accepts() -> None:
    allowed = re.findall(r"client_max_body_size (\d+)k;", (DOCKER / "nginx.conf").read_text())
    assert allowed == [str(MAX_BODY_BYTES // 1024)]


def test_everything_that_the_image_installs_is_checked_against_digests() -> None:
    lines = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text()).replace("&&", "\n").splitlines()
    fetching = [line for line in lines if re.search(r"\b(?:pip install|uv build|apt-get|curl|wget|npm)\b", line)]
    assert len(fetching) == 5
    for line in fetching:
        assert "--require-hashes" in line or ("--no-deps" in line and line.endswith("dist/*.whl")), line
        assert "uv pip" not in line or "--no-config" in line, "[tool.uv] may have constraints, which have no digests"
        assert "uv build" not in line or "--build-constraints" in line
    assert re.search(r"^uv==[\d.]+ \\\n    --hash=sha256:", (DOCKER / "uv.txt").read_text(), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]


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
    below = {
        f"/var/lib/bloodcell/{name}"
        for name in ("airflow/logs", "desk", "identity-keys", "store", "summaries", "training")
    }
    assert folders == {"/var/lib/airflow/logs", *below}
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
