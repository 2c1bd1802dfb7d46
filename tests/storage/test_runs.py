"""Every run of a stage is recorded with its result."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.errors import DatabaseUnavailableError
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import EmbeddedPostgres
from bloodcell.storage.runs import code_version, recorded_run
from tests.conftest import ROOT
from tests.storage.conftest import as_superuser

NIGHT = date(2026, 11, 21)


def record(database: Database) -> Any:
    """Returns the only run."""
    with database.connect() as connection:
        return connection.execute(sa.select(tables.run)).one()


def test_a_successful_run_records_when_where_and_what(database: Database) -> None:
    before = datetime.now(UTC)
    with recorded_run(database, "ingest", night=NIGHT, airflow_run="scheduled__1") as run:
        assert record(database).state == "running"
        run.n_cells = 12
        run.detail |= {"files": 14}
    row = record(database)
    assert (row.run_id, row.stage, row.night, row.state) == (run.run_id, "ingest", NIGHT, "succeeded")
    assert (row.n_cells, row.detail, row.error, row.airflow_run) == (12, {"files": 14}, None, "scheduled__1")
    assert before <= row.started_at <= row.ended_at <= datetime.now(UTC)
    assert row.code_version == code_version()
    assert row.host


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        (ValueError("no such night"), "ValueError: no such night"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        # a file name that is not UTF-8, as Python reads it from a folder
        (OSError("cannot read caf\udce9.jpg\0"), r"OSError: cannot read caf\udce9.jpg\u0000"),
    ],
)
def test_a_failed_run_records_why_and_the_error_is_raised(
    database: Database, error: BaseException, recorded: str
) -> None:
    with pytest.raises(type(error)), recorded_run(database, "classify") as run:
        run.n_cells = 3
        raise error
    row = record(database)
    assert (row.state, row.error, row.n_cells, row.detail) == ("failed", recorded, 3, None)
    assert row.ended_at is not None


def test_the_error_itself_is_raised_when_its_record_cannot_be_written(
    postgres: EmbeddedPostgres, database: Database
) -> None:
    with pytest.raises(ValueError, match="the work"), recorded_run(database, "ingest"):
        with as_superuser(postgres.url("postgres")).connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {database.engine.url.database} WITH (FORCE)"))
        raise ValueError("the work")


def test_a_killed_run_stays_running(database_url: str, database: Database) -> None:
    code = (
        "import sys, time; from bloodcell.storage.connections import connect; "
        "from bloodcell.storage.database import Database; from bloodcell.storage.runs import recorded_run\n"
        "with recorded_run(Database(connect(sys.argv[1], role='bloodcell_app'), 0), 'classify'):\n"
        "    print('begun', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, database_url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        os.kill(child.pid, signal.SIGKILL)
    row = record(database)
    assert (row.state, row.ended_at, row.error) == ("running", None, None)


def test_a_run_that_cannot_be_recorded_does_not_begin(tmp_path: object) -> None:
    database = Database(connect(f"postgresql://anna@/bloodcell?host={tmp_path}"), patience_s=0)
    with pytest.raises(DatabaseUnavailableError), recorded_run(database, "ingest"):
        pytest.fail("the work began")


def test_the_code_version_of_a_checkout_names_its_commit() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")

    def commit(name: str) -> str:
        asked = ["git", "rev-parse", "--verify", f"{name}^{{commit}}"]
        return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    version, described = code_version().split("+", 1)
    assert version == importlib.metadata.version("bloodcell")
    assert commit(described.removesuffix("-dirty")) == commit("HEAD")
    assert re.fullmatch(r"[0-9a-f]{12,}(-dirty)?", described), "the commit itself, not a tag"
