"""Which night folders there are, which are due, and when one is completely written."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.database import tables
from bloodcell.errors import ConfigurationError
from bloodcell.ingest.walk import folders_changed_ns

if TYPE_CHECKING:
    from bloodcell.settings import Settings


def night_of(folder: Path) -> date:
    """Returns the night that a folder is named after.

    Raises:
        ConfigurationError: The name is not a date (YYYY-MM-DD).
    """
    try:
        return date.fromisoformat(folder.name)
    except ValueError as error:
        raise ConfigurationError(
            f"A night's folder is named by its date: expected YYYY-MM-DD, received {folder.name!r} ({folder})."
        ) from error


def night_folders(drops: Path) -> list[Path]:
    """Returns the nights' folders below `drops`, oldest first; other entries are no nights and left alone."""
    if not drops.is_dir():
        return []
    return sorted(path for path in drops.iterdir() if path.is_dir() and _is_night(path))


def pending_nights(settings: Settings, engine: sa.Engine) -> list[Path]:
    """Returns the nights' folders that were never completely ingested, or that changed since."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(tables.drop.c.night, tables.drop.c.folders_changed_ns))
        done = {row.night: row.folders_changed_ns for row in rows}
    return [path for path in night_folders(settings.drops) if done.get(night_of(path)) != folders_changed_ns(path)]


def is_settled(newest_change_ns: int, marker_ns: int | None, settle_s: float) -> bool:
    """Returns whether a folder is completely written.

    It is, when the night's marker came after its last change, or when nothing changed for `settle_s` seconds.
    """
    if marker_ns is not None and newest_change_ns <= marker_ns:
        return True
    return time.time_ns() - newest_change_ns >= settle_s * 1e9


def _is_night(path: Path) -> bool:
    try:
        night_of(path)
    except ConfigurationError:
        return False
    return True
