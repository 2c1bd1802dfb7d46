"""The check of the champion: it measures drift, compares new labels, and writes all rows in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.monitoring.check_records import ChampionCheck, Check
from bloodcell.monitoring.drift_checks import drift_checks
from bloodcell.monitoring.label_agreement import agreement_checks, compare_new_labels
from bloodcell.registry.registered_models import open_registered, serving_models
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.locks import wait_for
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from uuid import UUID

    from bloodcell.monitoring.drift_checks import OnProgress
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings

_SQL: Final = load_statements("monitoring/champion_check.sql")


@dataclass(frozen=True, slots=True)
class _Work:
    """What the transaction that writes a check needs."""

    bundle: Bundle
    run_id: UUID
    airflow_run: str | None
    drift: tuple[Check, ...]
    settings: Settings


def check_champion(
    settings: Settings, *, airflow_run: str | None = None, on_progress: OnProgress | None = None
) -> ChampionCheck:
    """Checks the champion on the labels and nights since its last check; returns the figures, kept in `model_check`.

    A repeated call for the same Airflow run returns the figures that were written, and writes nothing more.

    Args:
        settings: Where the database and the store are, and the thresholds.
        airflow_run: Id of the Dag run that checks.
        on_progress: Called with the step's name, the number done, and the total.

    Raises:
        NoChampionError: There is no champion.
        BundleError: The champion's bundle is missing, incomplete or altered.
        RetryLaterError: Postgres or the store is unavailable; nothing was written, run it again later.
    """
    database = open_database(settings)
    if airflow_run is not None:
        earlier = database.transact(lambda c: _earlier(c, airflow_run, None))
        if earlier is not None:
            return earlier
    store = Store.of(settings)
    with recorded_run(database, "check", airflow_run=airflow_run) as run:
        champion = database.transact(serving_models)[0]
        run.detail |= {"model": champion.model_id}
        # the store's own copy, not one fetched long ago: the next classification may have to fetch it
        bundle = open_registered(store, champion.model_id, fresh=True)
        drift = drift_checks(database, store, bundle, settings, on_progress or (lambda step, done, total: None))
        work = _Work(bundle, run.run_id, airflow_run, drift, settings)
        found = database.transact(lambda c: _write(c, work))
        run.n_cells = max((check.n_cells for check in found.checks), default=0)
        run.detail |= {"failed": list(found.failed)}
    return found


def read_check(settings: Settings, airflow_run: str) -> ChampionCheck | None:
    """Returns the check that a Dag run has written; None if it has written none.

    Args:
        settings: Where the database is.
        airflow_run: Id of the Dag run.
    """
    return open_database(settings).transact(lambda connection: _earlier(connection, airflow_run, None))


def _write(connection: sa.Connection, work: _Work) -> ChampionCheck:
    wait_for(connection, "check")  # two checks at once would count the same label
    earlier = _earlier(connection, work.airflow_run, work.run_id)
    if earlier is not None:
        return earlier
    settings = work.settings
    compared = compare_new_labels(connection, work.bundle, work.run_id, settings.check_min_cells)
    checks = (*agreement_checks(compared, settings), *work.drift)
    newest_label = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(tables.label.c.label_id), 0)))
    rows = [
        {
            "model_id": work.bundle.model_id,
            "kind": check.kind,
            "class": check.cell_class,
            "n_cells": check.n_cells,
            "measured": check.measured,
            "lower": check.lower,
            "upper": check.upper,
            "threshold": check.threshold,
            "passed": check.passed,
            "reason": check.reason,
            "until_label_id": newest_label,
            "since_night": check.since_night,
            "until_night": check.until_night,
            "run_id": work.run_id,
        }
        for check in checks
    ]
    connection.execute(sa.insert(tables.model_check), rows)
    return ChampionCheck(work.run_id, work.bundle.model_id, work.bundle.manifest.variant, checks)


def _earlier(connection: sa.Connection, airflow_run: str | None, run_id: UUID | None) -> ChampionCheck | None:
    rows = connection.execute(_SQL["earlier"], {"airflow_run": airflow_run, "run_id": run_id}).all()
    if not rows:
        return None
    return ChampionCheck(rows[0].run_id, rows[0].model_id, rows[0].variant, tuple(Check(*row[3:]) for row in rows))
