"""More API servers of a running system, for instance with the containers' auth manager, Flask AppBuilder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from bloodcell.environment import STACK_MARK
from bloodcell.service.airflow_home import airflow_home
from bloodcell.settings import Settings
from tests.conftest import ROOT

PASSWORD = "for tests only"  # noqa: S105 - of a server that tests start on this machine
READY_S = 180.0

_INIT = """
import sys
from airflow.cli.cli_parser import get_parser

def airflow(*command):
    arguments = get_parser().parse_args(command)
    arguments.func(arguments)

airflow("db", "migrate")
password, *users = sys.argv[1:]
for user in users:
    name, _, role = user.partition(":")
    who = ["--username", name, "--firstname", name, "--lastname", "tests", "--email", f"{name}@localhost"]
    airflow("users", "create", *who, "--role", role, f"--password={password}")
"""


@contextmanager
def fab_server(settings: Settings, port: int, log: Path, users: Mapping[str, str]) -> Iterator[str]:
    """Yields the address of a server with Flask AppBuilder once it answers; it is ended afterwards.

    Args:
        settings: The running system.
        port: Unused port of this machine.
        log: Where it logs.
        users: Role of each user; every password is `PASSWORD`.
    """
    more = {
        "AIRFLOW__CORE__AUTH_MANAGER": "people.AuthManager",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "docker"), str(ROOT)]),
    }
    init = [sys.executable, "-c", _INIT, PASSWORD, *(f"{name}:{role}" for name, role in users.items())]
    made = subprocess.run(init, env=_environment(settings) | more, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    with api_server(settings, port, log, more) as url:
        yield url


@contextmanager
def api_server(settings: Settings, port: int, log: Path, more: Mapping[str, str]) -> Iterator[str]:
    """Yields the address of one more API server of a running system; it is ended afterwards.

    Args:
        settings: The running system.
        port: Unused port of this machine.
        log: Where it logs.
        more: Environment variables in addition to those of the system, or instead.
    """
    url = f"http://127.0.0.1:{port}"
    environment = _environment(settings) | {"AIRFLOW__API__BASE_URL": url, "AIRFLOW__API__PORT": str(port), **more}
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server", "--proxy-headers"], env=environment, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_S
        while not _answers(url):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def _environment(settings: Settings) -> dict[str, str]:
    environment = airflow_home(settings).environment(settings, settings.plain_database_url or "")
    del environment[STACK_MARK]  # `bloodcell up` ends what carries its mark
    return environment


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/version", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False
