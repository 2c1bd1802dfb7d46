"""Removes what is older than the settings say, in bloodcell's data and in Airflow's own tables, and records it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from bloodcell.errors import RetryLaterError
from bloodcell.removal.retention import Removal, remove_old
from bloodcell.service.airflow_home import airflow_home
from bloodcell.storage.connections import connect, database_url, transact
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import AIRFLOW_DATABASE, embedded_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid

    import sqlalchemy as sa

    from bloodcell.settings import Settings

_SQL: Final = load_statements("service/cleaning.sql")

# what runs leave behind; not the tables of Dags, which do not grow
_TABLES: Final = (
    "dag_run",  # with its tasks, notes and questions, which refer to it
    "task_instance",
    "task_instance_history",
    "task_reschedule",
    "task_state_store",
    "xcom",
    "log",
    "job",
    "import_error",
    "callback",
    "trigger",
    "asset_event",
    "revoked_token",
)
_TIMEOUT_S: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What was removed, or would be.

    Attributes:
        run_id: The run that records it; None if it was only to count, or no age is set.
        removed: One entry for each kind.
    """

    run_id: uuid.UUID | None
    removed: tuple[Removal, ...]


def clean(settings: Settings, *, dry_run: bool = False, airflow_run: str | None = None) -> Cleaning:
    """Removes what is older than the settings `BLOODCELL_KEEP_*_DAYS` say, and returns how much it was.

    Doing it again, or after a kill, removes what is left.

    Args:
        settings: The ages, and where everything is.
        dry_run: Only count.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Raises:
        RetryLaterError: Postgres, the store or Airflow's tables are unavailable.
    """
    database = open_database(settings)
    if dry_run:
        removed = [*remove_old(settings, database, dry_run=True), _clean_airflow(settings, dry_run=True)]
        return Cleaning(None, tuple(removed))
    ages = (settings.keep_images_days, settings.keep_logs_days, settings.keep_airflow_days,
            settings.keep_features_days, settings.keep_snapshots_days)  # fmt: skip
    if all(age is None for age in ages):
        return Cleaning(None, ())
    with recorded_run(database, "clean", airflow_run=airflow_run) as run:
        removed = [*remove_old(settings, database), _clean_airflow(settings, dry_run=False)]
        run.detail |= {
            each.part: {"n": each.n, "bytes": each.n_bytes} for each in removed if each.keep_days is not None
        }
    return Cleaning(run.run_id, tuple(removed))


def _clean_airflow(settings: Settings, *, dry_run: bool) -> Removal:
    """Runs `airflow db clean` for the Airflow that `bloodcell up` runs; another Airflow is cleaned where it runs."""
    days = settings.keep_airflow_days
    configuration = airflow_home(settings).folder / "airflow.cfg"
    if days is None or not configuration.exists() or not (settings.data_dir / "postgres").exists():
        return Removal("airflow", None)
    before = datetime.now(UTC) - timedelta(days=days)
    engine = connect(embedded_database(settings).url(AIRFLOW_DATABASE))

    def count(connection: sa.Connection) -> int:
        return int(connection.scalar(_SQL["old_airflow_runs"], {"before": before}) or 0)

    n = transact(engine, count, patience_s=settings.database_patience_s)
    if not dry_run:
        command = [sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", before.isoformat(),
                   "--tables", ",".join(_TABLES), "--skip-archive", "--yes", "--error-on-cleanup-failure"]  # fmt: skip
        environment = airflow_home(settings).environment(settings, database_url(settings))
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        if done.returncode:
            end = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise RetryLaterError(f"airflow db clean failed; the next run tries again. Its output ends with:\n{end}")
        n -= transact(engine, count, patience_s=settings.database_patience_s)
    return Removal("airflow", days, n)
