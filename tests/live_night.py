"""One night of a running system: runs it through Airflow, kills the classify task, and compares the rows it leaves."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import psutil
import sqlalchemy as sa

from bloodcell.service.airflow_api import NIGHTLY_RUN, AirflowApi
from bloodcell.service.airflow_records import RunState, TaskState
from bloodcell.service.airflow_session import AirflowUnavailableError
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import embedded_database

# what a night's run leaves behind, without the ids of runs and the times of writing
CONTENT = {
    "cell_call": """
        SELECT s.barcode, c.file_name, k.model_id, k.called_class, k.top_class, k.unclassified_reason, k.confidence,
               k.novelty, k.p_basophil, k.p_eosinophil, k.p_erythroblast, k.p_ig, k.p_lymphocyte, k.p_monocyte,
               k.p_neutrophil, k.p_platelet
        FROM bloodcell.cell_call k
        JOIN bloodcell.cell c USING (cell_id, night) JOIN bloodcell.slide s USING (slide_id)
        WHERE k.night = :night ORDER BY 1, 2, 3""",
    "slide_report": """
        SELECT s.barcode, r.model_id, r.n_cells, r.n_leucocytes, r.n_unclassified, r.is_sufficient, r.nrbc_per_100_wbc,
               r.nrbc_lower, r.nrbc_upper, r.n_compared, r.n_agree, r.calls_digest, r.labels_digest
        FROM bloodcell.newest_count JOIN bloodcell.slide_report r USING (report_id)
        JOIN bloodcell.slide s ON s.slide_id = r.slide_id WHERE s.night = :night ORDER BY 1, 2""",
    "differential": """
        SELECT s.barcode, r.model_id, d.class, d.n_cells, d.percentage, d.lower, d.upper, d.flag
        FROM bloodcell.newest_count JOIN bloodcell.slide_report r USING (report_id)
        JOIN bloodcell.differential d USING (report_id) JOIN bloodcell.slide s ON s.slide_id = r.slide_id
        WHERE s.night = :night ORDER BY 1, 2, 3""",
    "result": """
        SELECT s.barcode, v.state, v.withheld_for, v.review_for, v.digest
        FROM bloodcell.result_in_force v JOIN bloodcell.slide s USING (slide_id) WHERE s.night = :night ORDER BY 1""",
    "drop_file": """
        SELECT path, barcode, outcome, reason, sha256, size_bytes
        FROM bloodcell.drop_file WHERE night = :night ORDER BY 1""",
}
TOLERANCE = 1e-4
"""Relative tolerance of floats: a resumed run batches other cells together, which changes a float32's last digits."""

Rows = dict[str, list[tuple[object, ...]]]


@dataclass(frozen=True)
class LiveNight:
    """A running system and one of its nights."""

    settings: Settings
    night: date

    @property
    def database(self) -> Database:
        """The database with the rights of its owner."""
        engine = connect(self.settings.plain_database_url or embedded_database(self.settings).url())
        return Database(engine, patience_s=60)

    def rows(self) -> Rows:
        """Returns what the night left behind."""
        return {name: [tuple(row) for row in self.all(statement)] for name, statement in CONTENT.items()}

    def forget_calls(self) -> None:
        """Deletes the night's calls and differentials, so that the next run has to make all of them."""
        of_night = "slide_id IN (SELECT slide_id FROM bloodcell.slide WHERE night = :night)"
        of_report = f"report_id IN (SELECT report_id FROM bloodcell.slide_report WHERE {of_night})"

        def forget(connection: sa.Connection) -> None:
            for statement in (
                "SET LOCAL session_replication_role = replica",  # or the tables refuse to forget anything
                f"DELETE FROM bloodcell.result WHERE {of_night}",
                f"DELETE FROM bloodcell.differential WHERE {of_report}",
                f"DELETE FROM bloodcell.slide_report WHERE {of_night}",
                "DELETE FROM bloodcell.cell_call WHERE night = :night",
            ):
                connection.execute(sa.text(statement), {"night": self.night})

        self.database.transact(forget)

    def n_calls(self) -> int:
        """Returns the number of calls written so far."""
        counted = self.all("SELECT count(*) FROM bloodcell.cell_call WHERE night = :night")
        return int(counted[0][0])

    def all(self, statement: str) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        """Returns the rows of a statement in which `:night` stands for the night."""
        values = {"night": self.night}
        return self.database.transact(lambda c: c.execute(sa.text(statement), values).all())


def differences(expected: Rows, received: Rows) -> list[str]:
    """Returns the differences, with a tolerance for floats; empty if the rows are the same."""
    found = []
    for name, rows in expected.items():
        others = received[name]
        if len(rows) != len(others):
            found.append(f"{name}: {len(rows)} rows expected, {len(others)} received")
        found += [
            f"{name}: expected {row}, received {other}"
            for row, other in zip(rows, others, strict=False)
            if not all(_same(a, b) for a, b in zip(row, other, strict=True))
        ]
    return found


def run_night(api: AirflowApi, night: date, *, timeout_s: float = 900) -> RunState:
    """Runs the night through Airflow and returns how it ended."""
    run_id = api.trigger(NIGHTLY_RUN, conf={"night": night.isoformat()})
    return api.wait(NIGHTLY_RUN, run_id, timeout_s=timeout_s, interval_s=0.5)


def run_night_and_kill_task(api: AirflowApi, night: date, after_s: float, *, timeout_s: float = 900) -> RunState:
    """Runs the night, kills the classify task `after_s` seconds after it began, and waits for the run's end.

    Raises:
        RuntimeError: The task ended by itself before that.
    """
    run_id = api.trigger(NIGHTLY_RUN, conf={"night": night.isoformat()})
    task = classify_task(api, run_id)
    time.sleep(after_s)
    if task.pid is None or not psutil.pid_exists(task.pid):
        raise RuntimeError(f"The classify task had ended by itself within {after_s:.1f} s: {task}")
    os.kill(task.pid, signal.SIGKILL)
    return api.wait(NIGHTLY_RUN, run_id, timeout_s=timeout_s, interval_s=0.5)


def classify_task(api: AirflowApi, run_id: str, *, timeout_s: float = 300) -> TaskState:
    """Returns the classify task of a run, after waiting until it is running."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            tasks = api.run_state(NIGHTLY_RUN, run_id).tasks
        except AirflowUnavailableError:
            tasks = ()
        for task in tasks:
            if task.task_id == "classify" and task.state == "running" and task.pid:
                return task
        time.sleep(0.2)
    raise RuntimeError(f"The classify task of {run_id} did not begin within {timeout_s:g} s")


def postmaster_pid(settings: Settings) -> int:
    """Returns the process id of the embedded Postgres."""
    return int((settings.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE / 10)
    return one == other
