"""`bloodcell desk` as a process of its own: what it says when it cannot start, and that it leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import free_port

COMMAND = [sys.executable, "-m", "bloodcell"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A data folder with a Postgres of its own, and a free port."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("BLOODCELL_")}
    url = f"http://127.0.0.1:{free_port()}"
    return {**kept, "BLOODCELL_DATA_DIR": str(tmp_path / "data"), "BLOODCELL_DESK_URL": url}


def test_a_database_without_the_schema_is_named_with_the_next_step(environment: dict[str, str]) -> None:
    done = subprocess.run([*COMMAND, "desk"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "SchemaError: The database has no bloodcell schema" in done.stderr
    assert done.stderr.rstrip().endswith("Next: bloodcell db upgrade")
    assert "Traceback" not in done.stderr


def test_a_signal_stops_the_postgres_that_came_with_it(environment: dict[str, str]) -> None:
    subprocess.run([*COMMAND, "db", "upgrade"], env=environment, capture_output=True, timeout=120, check=True)
    with subprocess.Popen([*COMMAND, "desk"], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_healthy(environment["BLOODCELL_DESK_URL"], process)
            assert list(Path(environment["BLOODCELL_DATA_DIR"]).rglob("postmaster.pid"))
        finally:
            process.terminate()
        assert process.wait(60) == 0
    assert not list(Path(environment["BLOODCELL_DATA_DIR"]).rglob("postmaster.pid"))


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until the desk answers."""
    for _ in range(600):
        assert process.poll() is None
        try:
            httpx.get(f"{url}/healthz", timeout=5).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the desk did not start within a minute")
