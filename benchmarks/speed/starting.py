"""Measures how long `bloodcell --help` takes, and how long Airflow takes to read a Dag file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.speed.line import Line, shown
from benchmarks.speed.place import Place
from bloodcell.resources import dag_ids
from tests.dags.reading import DAGS, airflow_environment

_IMPORTED = """
import airflow.sdk
import json, runpy, sys, time
before = time.perf_counter()
runpy.run_path(sys.argv[1])
took_s = time.perf_counter() - before
print(json.dumps({"took_s": took_s, "heavy": sorted({"tensorflow", "keras", "sklearn", "PIL"} & set(sys.modules))}))
"""


def starting(place: Place) -> list[Line]:
    times = [_help_s() for _ in range(2 if place.quick else 10)]
    lines = [Line("bloodcell --help", "", median(times), f"s: {shown(times)}", at_most=0.5, unit=" s")]
    for file in (DAGS / f"{dag_id}.py" for dag_id in dag_ids()):
        read = [_read_by_airflow(file, place.folder) for _ in range(1 if place.quick else 3)]
        heavy = sorted({name for _, names in read for name in names})
        if heavy:
            raise ValueError(f"{file.name} imports {', '.join(heavy)}. Expected none of them at module level.")
        took = [seconds for seconds, _ in read]
        raw = f"s: {shown(took)}; without TensorFlow, Keras, scikit-learn, Pillow"
        lines.append(Line(f"import of dags/{file.name}", "after airflow.sdk", median(took), raw, at_most=1, unit=" s"))
    return lines


def _help_s() -> float:
    started = time.perf_counter()
    subprocess.run([Path(sys.executable).parent / "bloodcell", "--help"], check=True, capture_output=True)
    return time.perf_counter() - started


def _read_by_airflow(file: Path, home: Path) -> tuple[float, list[str]]:
    command = [sys.executable, "-c", _IMPORTED, str(file)]
    answer = subprocess.run(
        command, env=airflow_environment(home / "airflow"), check=True, capture_output=True, text=True
    )
    read = json.loads(answer.stdout.splitlines()[-1])
    return read["took_s"], read["heavy"]
