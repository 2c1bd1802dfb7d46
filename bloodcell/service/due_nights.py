"""The nights that a nightly run works on: those of newly ingested folders, and unfinished ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.errors import BloodcellError, ConfigurationError, RetryLaterError
from bloodcell.inbox.night_folders import DropsFolder, read_drops
from bloodcell.ingest import IngestSummary, ingest_night, pending_nights
from bloodcell.quality.night_control import nights_of
from bloodcell.storage.database import open_database
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bloodcell.settings import Settings

log = logging.getLogger(__name__)

_SQL: Final = load_statements("service/due_nights.sql")


@dataclass(frozen=True, slots=True)
class DueNights:
    """What a run has to work on.

    Attributes:
        nights: Nights to classify, add up and report, oldest first.
        failed: Nights that could not be read, or of which slides could not be ingested: name -> reason. If the drops
            folder itself cannot be read, its reason is under "drops".
        problems: Entries of the drops folder that are no night, or a night in the future: name -> what is wrong.
    """

    nights: tuple[date, ...]
    failed: dict[str, str]
    problems: Mapping[str, str]


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
        did not finish. Whatever happens to one night does not hold up the others.

    Raises:
        RetryLaterError: Postgres or the store is unavailable; nothing is lost, call again.
        ConfigurationError: The requested night cannot be read.
    """
    if slides and not night:
        return DueNights(tuple(nights_of(settings, slides)), {}, {})
    if night:
        drops = read_drops(settings)
        folder = drops.nights.get(night, settings.drops / night.isoformat())  # a missing one says so
        summary = ingest_night(folder, settings, airflow_run=airflow_run)
        return DueNights((night,), _failures(summary), drops.problems)
    database = open_database(settings)
    try:
        drops = read_drops(settings)
        nights, failed = _ingest(pending_nights(settings, database), settings, airflow_run)
    except ConfigurationError as error:  # what is in the database already is classified all the same
        drops, nights, failed = DropsFolder({}, {}), [], {"drops": str(error)}
    unreported = database.transact(lambda connection: connection.scalars(_SQL["unfinished_nights"]).all())
    return DueNights(tuple(sorted({*nights, *unreported})), failed, drops.problems)


def ingested_by(settings: Settings, airflow_run: str) -> DueNights:
    """Returns the nights that a Dag run has ingested, and its failures, as the database has them.

    Args:
        settings: Where the database is.
        airflow_run: Id of the Dag run.
    """

    def read(connection: sa.Connection) -> list[sa.Row[Any]]:
        return list(connection.execute(_SQL["newest_ingests"], {"airflow_run": airflow_run}))

    rows = open_database(settings).transact(read)
    nights = tuple(row.night for row in rows if row.state == "succeeded")
    # only the kind of error: a text of the database may contain values of slide.json
    failed = {row.night.isoformat(): str(row.error).partition(":")[0] for row in rows if row.state == "failed"}
    for row in rows:
        failed |= _failed_slides(row.night, row.failed_slides or {})
    return DueNights(nights, failed, {})


def _ingest(folders: Sequence[Path], settings: Settings, airflow_run: str | None) -> tuple[list[date], dict[str, str]]:
    """Returns the nights that were ingested, and the failures."""
    nights: list[date] = []
    failed: dict[str, str] = {}
    for folder in folders:
        try:
            summary = ingest_night(folder, settings, airflow_run=airflow_run)
            failed |= _failures(summary)
            nights.append(summary.night)
        except RetryLaterError:
            raise
        except BloodcellError as error:
            log.error("night %s was left out: %s", folder.name, error)
            failed[folder.name] = str(error)
        except Exception as error:
            log.exception("night %s was left out", folder.name)
            failed[folder.name] = f"an unexpected {type(error).__name__}; the log has the traceback"
    return nights, failed


def _failures(summary: IngestSummary) -> dict[str, str]:
    """Returns the night with the slides that could not be ingested; empty if there are none."""
    log.info("%s", summary)
    return _failed_slides(summary.night, summary.failed)


def _failed_slides(night: date, failed: Mapping[str, str]) -> dict[str, str]:
    if not failed:
        return {}
    slides = ", ".join(f"{slide or 'loose files'} ({error})" for slide, error in sorted(failed.items()))
    return {night.isoformat(): f"slides that could not be ingested: {slides}; the log has the tracebacks"}
