"""The nights that a nightly run works on: those of newly ingested folders, and unfinished ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.errors import BloodcellError, RetryLaterError
from bloodcell.inbox.night_folders import night_of
from bloodcell.ingest import ingest_night, pending_nights
from bloodcell.storage.database import open_database
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

log = logging.getLogger(__name__)

_SQL: Final = load_statements("service/due_nights.sql")


@dataclass(frozen=True, slots=True)
class DueNights:
    """What a run has to work on.

    Attributes:
        nights: Nights to classify, add up and report, oldest first.
        failed: Folders that could not be read: name -> reason.
    """

    nights: tuple[date, ...]
    failed: dict[str, str]


def ingest_due_nights(
    settings: Settings, *, night: date | None = None, slides: Sequence[str] = (), airflow_run: str | None = None
) -> DueNights:
    """Ingests what is due and returns the nights to work on.

    Args:
        settings: Paths, database and store.
        night: Only this night.
        slides: If no night is given, nothing is ingested, and the nights of these slides are returned.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Returns:
        With neither night nor slides, the nights whose folders are new or have changed, and those that an earlier run
        did not finish. A folder that cannot be read does not hold up the others.

    Raises:
        RetryLaterError: Postgres or the store is unavailable; nothing is lost, call again.
        ConfigurationError: The requested night cannot be read.
    """
    if night:
        log.info("%s", ingest_night(settings.drops / night.isoformat(), settings, airflow_run=airflow_run))
        return DueNights((night,), {})
    database = open_database(settings)
    if slides:
        return DueNights(tuple(_nights(database, _SQL["nights_of_slides"], slides=list(slides))), {})
    ingested = _ingest(pending_nights(settings, database), settings, airflow_run)
    unreported = _nights(database, _SQL["unfinished_nights"])
    return DueNights(tuple(sorted({*ingested.nights, *unreported})), ingested.failed)


def _ingest(folders: Sequence[Path], settings: Settings, airflow_run: str | None) -> DueNights:
    nights: list[date] = []
    failed: dict[str, str] = {}
    for folder in folders:
        try:
            log.info("%s", ingest_night(folder, settings, airflow_run=airflow_run))
            nights.append(night_of(folder))
        except RetryLaterError:
            raise
        except BloodcellError as error:
            log.error("night %s was left out: %s", folder.name, error)
            failed[folder.name] = str(error)
    return DueNights(tuple(nights), failed)


def _nights(database: Database, statement: sa.TextClause, **values: object) -> list[date]:
    return database.transact(lambda connection: list(connection.scalars(statement, values)))
