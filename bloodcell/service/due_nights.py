"""The nights that a run of the whole chain works on: folders that are due are ingested, unfinished nights added."""

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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

log = logging.getLogger(__name__)

# a slide reported by a model that is or was champion is done: a newer champion does not classify old nights again
_UNREPORTED: Final = """
    SELECT DISTINCT night FROM bloodcell.cell WHERE slide_id IN (
        SELECT c.slide_id FROM bloodcell.cell c GROUP BY c.slide_id
        HAVING count(*) > coalesce(
            (SELECT max(r.n_cells) FROM bloodcell.slide_report r JOIN bloodcell.promotion p USING (model_id)
             WHERE r.slide_id = c.slide_id AND p.promoted_at <= r.written_at), 0)
    ) ORDER BY night
"""
_OF_SLIDES: Final = """
    SELECT DISTINCT c.night FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
    WHERE s.barcode = ANY (:slides) ORDER BY c.night
"""


@dataclass(frozen=True, slots=True)
class DueNights:
    """What a run has to work on.

    Attributes:
        nights: To classify, add up and report, oldest first.
        failed: Night's folder -> why it could not be read, for those left out.
    """

    nights: tuple[date, ...]
    failed: dict[str, str]


def ingest_due_nights(
    settings: Settings, *, night: date | None = None, slides: Sequence[str] = (), airflow_run: str | None = None
) -> DueNights:
    """Ingests what is due and returns the nights to work on.

    Args:
        settings: Where things are.
        night: Only this night.
        slides: Where no night is given: nothing is ingested, the nights are those of these slides.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Returns:
        With neither night nor slides, the nights whose folders are new or have changed, and those that an earlier run
        did not bring to their end. One folder that cannot be read does not keep the others waiting.

    Raises:
        RetryLaterError: Postgres or the store is away; nothing is lost, call again.
        ConfigurationError: The night asked for cannot be read.
    """
    if night:
        log.info("%s", ingest_night(settings.drops / night.isoformat(), settings, airflow_run=airflow_run))
        return DueNights((night,), {})
    database = open_database(settings)
    if slides:
        return DueNights(tuple(_nights(database, settings, _OF_SLIDES, slides=list(slides))), {})
    ingested = _ingest(pending_nights(settings, database), settings, airflow_run)
    unreported = _nights(database, settings, _UNREPORTED)
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
            log.error("night %s is left out: %s", folder.name, error)
            failed[folder.name] = str(error)
    return DueNights(tuple(nights), failed)


def _nights(database: Database, settings: Settings, statement: str, **values: object) -> list[date]:
    return database.transact(lambda connection: list(connection.scalars(sa.text(statement), values)))
