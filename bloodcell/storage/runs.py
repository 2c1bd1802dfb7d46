"""Records every run of a stage: a row is written before the work begins, and completed with the result."""

from __future__ import annotations

import functools
import importlib.metadata
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.storage import tables
from bloodcell.storage.database import Database
from bloodcell.visible_text import visible_lines


@dataclass(slots=True)
class Run:
    """One run of a stage, which the stage fills in while it works."""

    run_id: uuid.UUID
    n_cells: int = 0
    detail: dict[str, object] = field(default_factory=dict)


@contextmanager
def recorded_run(
    database: Database,
    stage: str,
    *,
    night: date | None = None,
    airflow_run: str | None = None,
) -> Iterator[Run]:
    """Yields the run under which a stage writes its rows, and ends it as succeeded, or as failed with the error.

    A killed stage leaves its run as `running`.
    """
    run = Run(uuid.uuid4())
    begin = (
        insert(tables.run)
        .values(
            run_id=run.run_id,
            stage=stage,
            night=night,
            code_version=code_version(),
            host=socket.gethostname(),
            airflow_run=airflow_run,
        )
        .on_conflict_do_nothing()
    )
    database.transact(lambda connection: connection.execute(begin))
    try:
        yield run
    except BaseException as error:
        # Postgres accepts neither NUL nor the surrogates that stand for bytes of a file name that is not UTF-8
        end = _end(run, "failed", visible_lines(f"{type(error).__name__}: {error}"))
        with suppress(Exception):  # the error itself matters more than its record
            database.transact(lambda connection: connection.execute(end), patience_s=0)
        raise
    end = _end(run, "succeeded", None)
    database.transact(lambda connection: connection.execute(end))


@functools.cache
def code_version() -> str:
    """Returns the version of bloodcell, with the git commit (and `dirty`) if it runs from a checkout."""
    version = importlib.metadata.version("bloodcell")
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return version
    describe = ["git", "describe", "--always", "--exclude=*", "--dirty", "--abbrev=12"]  # the commit, whatever its tag
    described = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=False)
    return f"{version}+{described.stdout.strip()}" if described.returncode == 0 else version


def _end(run: Run, state: str, error: str | None) -> sa.Update:
    return (
        tables.run.update()
        .where(tables.run.c.run_id == run.run_id)
        .values(state=state, ended_at=sa.func.now(), n_cells=run.n_cells, detail=run.detail or None, error=error)
    )
