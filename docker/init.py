#!/usr/bin/env python3
"""Brings databases, pools, roles and the first users to this release; done again it changes only what is not so yet.

    init.py

All of it by the commands of bloodcell and Airflow, the latter in one process: each of its starts takes five seconds.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECRETS = Path("/run/secrets")


def main() -> None:
    """Runs the commands in order; the first that fails ends it."""
    subprocess.run(["bloodcell", "db", "upgrade"], check=True)

    from airflow.cli.cli_parser import get_parser

    def airflow(*command: str) -> None:
        arguments = get_parser().parse_args(command)
        arguments.func(arguments)

    airflow("db", "migrate")
    # pool slots = GPUs: each gpu-worker takes one task at a time
    airflow("pools", "set", "gpu", os.environ.get("BLOODCELL_GPUS", "1"), "One task a GPU")

    # Airflow's own Viewer looks and Op operates; Pathologist, beside Viewer, answers what a retraining asks. To change
    # what hangs on a Dag, FAB wants can_edit of Dags as well: both could pause one
    airflow("roles", "create", "Pathologist", "Watcher")
    airflow("roles", "add-perms", "Pathologist", "--resource", "DAGs", "--action", "can_edit")
    airflow("roles", "add-perms", "Pathologist", "--resource", "HITL Detail", "--action", "can_edit", "menu_access")
    airflow("roles", "add-perms", "Watcher", "--resource", "DAGs", "--action", "can_read", "can_edit")
    airflow("roles", "add-perms", "Watcher", "--resource", "DAG Runs", "--action", "can_read", "can_create")

    for name, role in (("admin", "Admin"), ("watcher", "Watcher")):
        who = ["--username", name, "--firstname", name, "--lastname", "bloodcell", "--email", f"{name}@localhost"]
        password = (SECRETS / f"{name}_password").read_text().strip()
        airflow("users", "create", *who, "--role", role, f"--password={password}")  # it may begin with a dash


if __name__ == "__main__":
    main()
