"""Fixtures of the ingest tests: a night's folder, and the ledger after ingesting it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from bloodcell.ingest import IngestSummary, ingest_night
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.ingest.night import NightFolder


@pytest.fixture
def night(settings: Settings) -> NightFolder:
    return NightFolder(settings.drops)


@pytest.fixture
def ingested(settings: Settings, night: NightFolder) -> Callable[[], IngestSummary]:
    return lambda: ingest_night(night.path, settings)


@pytest.fixture
def ledger(database: Database) -> Callable[[], dict[str, tuple[str, str | None]]]:
    """A function that returns path -> (outcome, reason)."""

    def read() -> dict[str, tuple[str, str | None]]:
        with database.connect() as connection:
            rows = connection.execute(sa.text("SELECT path, outcome, reason FROM bloodcell.file_account"))
            return {row.path: (row.outcome, row.reason) for row in rows}

    return read
