"""Which night folders there are, which are due, and when one is completely written."""

from __future__ import annotations

import stat
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.inbox.walk import changed_ns, folders_changed_ns
from bloodcell.storage import tables

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database


def night_of(folder: Path) -> date:
    """Returns the night that a folder is named after.

    Raises:
        ConfigurationError: The name is not a date (YYYY-MM-DD).
    """
    try:
        night = date.fromisoformat(folder.name)
    except ValueError:
        night = None
    if night is None or night.isoformat() != folder.name:  # 20261121 would be a second folder of one night
        raise ConfigurationError(
            f"A night's folder is named by its date: expected YYYY-MM-DD, received {folder.name!r} ({folder})."
        )
    return night


def night_folders(drops: Path) -> list[Path]:
    """Returns the nights' folders below `drops`, oldest first; links and other entries are left alone."""
    if not drops.is_dir():
        return []
    return sorted(path for path in drops.iterdir() if not path.is_symlink() and path.is_dir() and _is_night(path))


def pending_nights(settings: Settings, database: Database) -> list[Path]:
    """Returns the nights' folders that were never completely ingested, or that changed since.

    Folders are compared by the time of their newest entry, and of each file that was set aside its own time and size:
    one that was written to its end in place is read again. A folder that cannot be read is due: ingesting says why.
    """
    file = tables.drop_file
    folders = {night_of(path): path for path in night_folders(settings.drops)}
    aside = sa.select(file.c.night, file.c.path, file.c.size_bytes, file.c.changed_ns)
    with database.connect() as connection:
        rows = connection.execute(sa.select(tables.drop.c.night, tables.drop.c.folders_changed_ns))
        done = {row.night: row.folders_changed_ns for row in rows}
        set_aside = connection.execute(
            aside.where(file.c.outcome == sa.literal_column("'quarantined'"), file.c.night.in_(folders))
        )
        mended = {row.night for row in set_aside if _was_mended(folders[row.night], *row[1:])}
    return [path for night, path in folders.items() if night in mended or done.get(night) != _newest_ns(path)]


def is_settled(newest_change_ns: int, marker_ns: int | None, settle_s: float) -> bool:
    """Returns whether a folder is completely written.

    It is, when the night's marker came after its last change, or when nothing changed for `settle_s` seconds.
    """
    if marker_ns is not None and newest_change_ns <= marker_ns:
        return True
    return time.time_ns() - newest_change_ns >= settle_s * 1e9


def _newest_ns(path: Path) -> int:
    try:
        return folders_changed_ns(path)
    except OSError:
        return -1  # as no folder that was read


def _was_mended(folder: Path, path: str, size_bytes: int, changed_file_ns: int) -> bool:
    try:
        status = (folder / path).lstat()
    except (OSError, ValueError):  # gone, or a name that is no UTF-8: its folder's time tells of changes
        return False
    return stat.S_ISREG(status.st_mode) and (status.st_size, changed_ns(status)) != (size_bytes, changed_file_ns)


def _is_night(path: Path) -> bool:
    try:
        night_of(path)
    except ConfigurationError:
        return False
    return True
