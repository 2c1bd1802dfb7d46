"""With the overlays for files of the site, each service sees the files that it needs, and no others.

tests/fleet/test_exchange.py runs the services with these files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bloodcell.exchange.exchange_file import OrderSource
from bloodcell.settings import Settings
from tests.docker.test_files import DOCKER, OVERLAYS, SERVICES

EXCHANGE, RULES, QUALITY = (OVERLAYS[f"compose.{name}.yaml"]["services"] for name in ("exchange", "rules", "quality"))
PORT = OrderSource.model_fields["port"].default
FILE = "/etc/bloodcell/exchange.toml"


def mounts(services: Mapping[str, Any], name: str) -> dict[str, str]:
    """Returns folder or file in the container -> what of the server is there."""
    volumes = [re.fullmatch(r"(\$\{[^}]*\}[^:]*|[\w-]+):([^:]+)(:ro)?", each) for each in services[name]["volumes"]]
    return {each[2]: re.sub(r":\?[^}]*", "", each[1]) + (each[3] or "") for each in volumes if each}


def test_files_of_the_site_are_read_only_and_each_service_sees_its_own() -> None:
    file = "${BLOODCELL_EXCHANGE}/exchange.toml:ro"
    assert mounts(EXCHANGE, "worker") == {
        FILE: file,
        "/etc/bloodcell/receivers": "${BLOODCELL_EXCHANGE}/receivers:ro",
        "/var/lib/bloodcell/identity-keys": "identity-keys",
    }
    assert mounts(EXCHANGE, "orders") == {FILE: file, "/etc/bloodcell/orders": "${BLOODCELL_EXCHANGE}/orders:ro"}
    assert EXCHANGE.keys() == {"worker", "orders", "dag-processor", "desk"}
    assert all("volumes" not in EXCHANGE[name] for name in ("dag-processor", "desk")), "they read nothing of it"
    assert RULES.keys() == {"worker", "desk"}
    for name in RULES:
        assert mounts(RULES, name) == {"/etc/bloodcell/rules.toml": "${BLOODCELL_RULES}:ro"}
    assert QUALITY.keys() == {"worker", "gpu-worker", "gpu-worker-1", "cpu-worker"}
    for name in QUALITY:
        assert mounts(QUALITY, name) == {"/etc/bloodcell/quality.toml": "${BLOODCELL_QUALITY}:ro"}


def test_the_files_add_no_right_and_only_the_port_for_orders() -> None:
    for services in (EXCHANGE, RULES, QUALITY):
        for name, service in services.items():
            assert service.keys() <= {"environment", "volumes", *(("networks", "ports") if name == "orders" else ())}
            named = {
                variable.removeprefix("BLOODCELL_").lower(): path for variable, path in service["environment"].items()
            }
            assert named.keys() <= Settings.model_fields.keys()
            if "volumes" in service:
                assert set(named.values()) <= mounts(services, name).keys()
    assert EXCHANGE["orders"]["ports"] == [
        f"${{BLOODCELL_ORDERS_ADDRESS:-127.0.0.1}}:${{BLOODCELL_ORDERS_PORT:-{PORT}}}:{PORT}"
    ]
    assert EXCHANGE["orders"]["networks"] == ["front"]


def test_orders_has_only_the_login_of_the_stages_and_the_keys() -> None:
    orders = SERVICES["orders"]
    assert orders["secrets"] == ["bloodcell_database_url"]
    assert orders["environment"] == {}, "none of Airflow's database"
    assert orders["volumes"] == ["identity-keys:/var/lib/bloodcell/identity-keys"]
    settings = Settings(data_dir=Path("/var/lib/bloodcell"))
    assert str(settings.identity_keys) == "/var/lib/bloodcell/identity-keys"
    assert f"_ORDERS_PORT = {PORT}\n" in (DOCKER / "healthy.py").read_text()
    backup = re.findall(r"Mountpoint\}\}' bloodcell_([\w-]+)", (DOCKER / "README.md").read_text())
    assert backup
    assert "identity-keys" not in backup, "the keys belong in no backup"


def test_the_page_lists_each_variable_of_the_two_files() -> None:
    text = "".join((DOCKER / f"compose.{name}.yaml").read_text() for name in ("exchange", "rules"))
    page = (DOCKER / "README.md").read_text()
    for variable in set(re.findall(r"\$\{(\w+)", text)):
        assert variable in page, variable
