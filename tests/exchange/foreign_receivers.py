"""Receivers in Node, which share nothing with bloodcell: node-hl7-server, and medplum's FHIR router."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.service.conftest import free_port

FOLDER = Path(__file__).with_name("receivers")


@contextmanager
def running(script: str) -> Iterator[tuple[int, IO[str]]]:
    """Runs a receiver; yields its port and what it prints after `ready`."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("needs Node and `npm ci` in tests/exchange/receivers")
    port = free_port()
    command = [node, str(FOLDER / script), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            while (line := process.stdout.readline()).strip() != "ready":
                assert line, f"{script} ended"
            yield port, process.stdout
        finally:
            process.terminate()
