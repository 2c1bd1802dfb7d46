"""Removes what is older than the settings say, in bloodcell's data and in Airflow's own tables, and records it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from bloodcell.errors import ConfigurationError, RetryLaterError
from bloodcell.exchange.identities import IdentityKeys, remove_expired
from bloodcell.removal.retention import Removal, remove_old
from bloodcell.service.airflow_home import airflow_home
from bloodcell.storage.connections import connect, database_url, transact
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import AIRFLOW_DATABASE, embedded_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from pathlib import Path

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


def clean(
    settings: Settings, *, dry_run: bool = False, airflow_run: str | None = None, logs: Path | None = None
) -> Cleaning:
    """Removes what is older than the settings `BLOODCELL_KEEP_*_DAYS` say, and returns how much it was.

    What orders say of patients is removed whenever it has expired, as senders and the order listener do: a laboratory
    that has stopped both keeps no identity for longer. Doing it again, or after a kill, removes what is left.

    Args:
        settings: The ages, and where everything is.
        dry_run: Only count.
        airflow_run: Id of the Dag run on whose behalf this is done.
        logs: Folder of the logs of Airflow's tasks; None: that of `bloodcell up`.

    Raises:
        RetryLaterError: Postgres, the store or Airflow's tables are unavailable.
        ConfigurationError: Airflow's runs would be removed while a person may still answer their question.
    """
    _refuse_too_short(settings)
    database = open_database(settings)
    if dry_run:
        removed = [*remove_old(settings, database, dry_run=True, logs=logs), _clean_airflow(settings, dry_run=True)]
        return Cleaning(None, tuple(removed))
    ages = (settings.keep_images_days, settings.keep_logs_days, settings.keep_airflow_days,
            settings.keep_features_days, settings.keep_snapshots_days)  # fmt: skip
    keys = IdentityKeys.of(settings)
    database.transact(lambda connection: remove_expired(connection, keys))
    if all(age is None for age in ages):
        return Cleaning(None, ())
    with recorded_run(database, "clean", airflow_run=airflow_run) as run:
        removed = [*remove_old(settings, database, logs=logs), _clean_airflow(settings, dry_run=False)]
        run.detail |= {
            each.part: {"n": each.n, "bytes": each.n_bytes} for each in removed if each.keep_days is not None
        }
    return Cleaning(run.run_id, tuple(removed))


def _refuse_too_short(settings: Settings) -> None:
    days, hours = settings.keep_airflow_days, settings.approval_timeout_h
    if days is not None and days * 24 <= hours:
        raise ConfigurationError(
            f"BLOODCELL_KEEP_AIRFLOW_DAYS is {days}, and a person has {hours:g} h to answer a question "
            "(BLOODCELL_APPROVAL_TIMEOUT_H): it would be removed before. Nothing was removed. Next: keep Airflow's "
            "runs for longer."
        )


def _clean_airflow(settings: Settings, *, dry_run: bool) -> Removal:
    """Runs `airflow db clean` for the Airflow that `bloodcell up` runs; another Airflow is cleaned where it runs."""
    days = settings.keep_airflow_days
    if days is None:
        return Removal("airflow", None)
    configuration = airflow_home(settings).folder / "airflow.cfg"
    if not configuration.exists() or not (settings.data_dir / "postgres").exists():
        return Removal("airflow", days, elsewhere="run `airflow db clean` where that Airflow runs")
    before = datetime.now(UTC) - timedelta(days=days)
    engine = connect(embedded_database(settings).url(AIRFLOW_DATABASE))

    def count(connection: sa.Connection) -> int:
        return int(connection.scalar(_SQL["old_airflow_runs"], {"before": before}) or 0)

    n = transact(engine, count, patience_s=settings.database_patience_s)
    if not dry_run:
        command = [sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", before.isoformat(),
                   "--tables", ",".join(_TABLES), "--skip-archive", "--yes", "--error-on-cleanup-failure"]  # fmt: skip
        environment = airflow_home(settings).environment(settings, database_url(settings))
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise RetryLaterError(
                f"airflow db clean took longer than {_TIMEOUT_S:,.0f} s and was ended. What it had removed is removed; "
                "the next run goes on."
            ) from error
        if done.returncode:
            end = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise RetryLaterError(f"airflow db clean failed; the next run tries again. Its output ends with:\n{end}")
        n -= transact(engine, count, patience_s=settings.database_patience_s)
    return Removal("airflow", days, n)
