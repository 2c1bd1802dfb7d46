"""A Dag file as Airflow reads it: in a fresh process, with the Dags folder on the import path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

DAGS = Path(__file__).resolve().parents[2] / "dags"

IMPORTED = """
import json, runpy, sys, time
import airflow.sdk
before, began = set(sys.modules), time.process_time()
loaded = runpy.run_path(sys.argv[1])
took_s = time.process_time() - began
heavy = ("tensorflow", "keras", "sklearn", "PIL", "scipy", "matplotlib", "sqlalchemy", "numpy")
print(json.dumps({"took_s": took_s, "heavy": sorted({m.split(".")[0] for m in set(sys.modules) - before} & {*heavy})}))
"""
"""Prints the processor time and the heavy modules that importing a Dag file takes, beyond Airflow itself."""


def airflow_environment(home: Path) -> dict[str, str]:
    """Returns the environment of an Airflow that has only our Dags, with its home in `home`."""
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "PYTHONPATH": str(DAGS),  # as Airflow's BundleDagBag does
        "NO_PROXY": "127.0.0.1",
    }


def read_by_airflow(dag_id: str, home: Path, code: str, **environment: str) -> dict[str, Any]:
    """Runs `code` on a Dag's file in a fresh process, and returns the JSON in its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(DAGS / f"{dag_id}.py")],
        env={**airflow_environment(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read
