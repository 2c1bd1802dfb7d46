"""Every Dag refuses a parameter that it does not have, before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.dags.reading import DAGS, airflow_environment

RUN = """
import sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(Path(sys.argv[1]))
for dag_id, dag in sorted(bag.dags.items()):
    run = dag.test(run_conf={"nigth": "2026-03-14", "slide": ["20260314-1"]})
    for task in run.get_task_instances():
        print("ended:", dag_id, task.task_id, task.state)
"""

FIRST = {
    "check_champion": "check",
    "clean": "remove_old",
    "import_labels": "inbox",
    "nightly_run": "ingest",
    "retrain": "snapshot",
    "send_results": "send",
    "verify_store": "verify",
}


def test_every_dag_refuses_an_unknown_parameter_and_names_the_nearest(
    airflow_home: Path, settings: Settings, database: Database
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(DAGS)],
        env={
            **airflow_environment(airflow_home),
            "BLOODCELL_DATA_DIR": str(settings.data_dir),
            "BLOODCELL_DATABASE_URL": str(settings.database_url),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    ended = {tuple(line.split()[1:3]): line.split()[3] for line in done.stdout.splitlines() if line[:6] == "ended:"}
    assert {dag_id for dag_id, _ in ended} == FIRST.keys()
    for dag_id, task_id in FIRST.items():
        assert ended[dag_id, task_id] == "failed", output
    assert (
        "The Dag nightly_run does not have the parameters 'nigth' (nearest: 'night'), 'slide' (nearest: 'slides'). "
        "Expected: models, night, redo, slides. Nothing was done."
    ) in output
    assert "The Dag retrain does not have the parameters 'nigth' (nearest: " in output
    assert "The Dag import_labels has no parameters. Received: nigth, slide. Nothing was done." in output
    assert "The Dag check_champion has no parameters. Received: nigth, slide. Nothing was done." in output
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM bloodcell.run WHERE stage <> 'close'").scalar() == 0
