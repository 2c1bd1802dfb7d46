#!/usr/bin/env python3
"""Updates databases, pools, roles and the first users to this release; running it again only adds what is missing.

    init.py

It uses the commands of bloodcell and Airflow, and runs Airflow's in one process, because each start takes five seconds.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECRETS = Path("/run/secrets")


def main() -> None:
    """Runs the commands in order, until one fails."""
    subprocess.run(["bloodcell", "db", "upgrade"], check=True)

    from airflow.cli.cli_parser import get_parser

    def airflow(*command: str) -> None:
        arguments = get_parser().parse_args(command)
        arguments.func(arguments)

    airflow("db", "migrate")
    # one slot per GPU: each gpu-worker runs one task at a time
    airflow("pools", "set", "gpu", os.environ.get("BLOODCELL_GPUS", "1"), "One task per GPU")

    # of Airflow's own roles, Viewer may view and Op may operate; Pathologist, in addition to Viewer, may approve or
    # reject a retrained model. To change anything that belongs to a Dag, FAB requires can_edit on Dags, so Pathologist
    # and Watcher could also pause one
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
