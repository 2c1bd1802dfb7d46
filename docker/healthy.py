#!/usr/bin/env python3
"""Checks that a service works: exit status 0, or 1 with the reason. Compose and Kubernetes use it as a health check.

    healthy.py api-server | scheduler | dag-processor | triggerer | worker | watcher | desk | orders

It imports neither Airflow nor bloodcell, so it takes a tenth of a second; `airflow jobs check` takes five.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import urllib.request
from pathlib import Path

_WAIT_S = 10
_SCHEDULER_PORT = 8974  # Airflow's [scheduler] scheduler_health_check_server_port
_DESK_PORT = 8090
_ORDERS_PORT = 2576
_LISTENS = "0A"  # in /proc/net/tcp
_WATCHER_S = 120


def main() -> None:
    """Checks the service that the command line names."""
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    checks = {
        "api-server": lambda: _read_json("http://localhost:8080/api/v2/monitor/health")["metadatabase"],
        "scheduler": _scheduler,
        "dag-processor": lambda: _read_json(_api_server_health_url())["dag_processor"],
        "triggerer": lambda: _read_json(_api_server_health_url())["triggerer"],
        "worker": _worker,
        "watcher": _watcher,
        "desk": _desk,
        "orders": _orders,
    }
    if part not in checks:
        sys.exit(f"Expected one of: {', '.join(checks)}. Received: {part!r}.")
    try:
        found = checks[part]()
    except Exception as error:
        sys.exit(f"{part}: {error}")
    if found.get("status") != "healthy":
        sys.exit(f"{part}: {found}")


def _api_server_health_url() -> str:
    return os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].replace("/execution/", "/api/v2/monitor/health")


def _read_json(url: str) -> dict[str, dict[str, str]]:
    with urllib.request.urlopen(url, timeout=_WAIT_S) as response:  # noqa: S310 - http, of this fleet
        health: dict[str, dict[str, str]] = json.load(response)
    return health


def _desk() -> dict[str, str]:
    with urllib.request.urlopen(f"http://localhost:{_DESK_PORT}/healthz", timeout=_WAIT_S):  # it says nothing else
        return {"status": "healthy"}


def _orders() -> dict[str, str]:
    """Looks for the open port: the service would take note of every connection that is none of its senders'."""
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, address, _, state, *_ = line.split()
            if state == _LISTENS and int(address.rpartition(":")[2], 16) == _ORDERS_PORT:
                return {"status": "healthy"}
    return {"status": f"nothing listens at port {_ORDERS_PORT}"}


def _scheduler() -> dict[str, str]:
    with urllib.request.urlopen(f"http://localhost:{_SCHEDULER_PORT}/health", timeout=_WAIT_S):  # it returns no details
        return {"status": "healthy"}


def _worker() -> dict[str, str]:
    from celery import Celery

    name = f"celery@{socket.gethostname()}"
    app = Celery(broker=Path("/run/secrets/redis_url").read_text().strip())
    replies = app.control.inspect(destination=[name], timeout=_WAIT_S).ping() or {}
    return {"status": "healthy"} if name in replies else {"status": f"{name} does not respond"}


def _watcher() -> dict[str, str]:
    age_s = time.time() - (Path(os.environ["BLOODCELL_DATA_DIR"]) / "watcher.alive").stat().st_mtime
    return {"status": "healthy" if age_s < _WATCHER_S else f"last looked {age_s:.0f} s ago"}


if __name__ == "__main__":
    main()
