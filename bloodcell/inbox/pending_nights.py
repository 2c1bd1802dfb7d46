"""Which night folders are due, according to the ledger of what was ingested."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.inbox.night_folders import read_drops
from bloodcell.inbox.settling import changed_ns, folders_changed_ns
from bloodcell.storage import tables

if TYPE_CHECKING:
    from bloodcell.settings import InboxSettings
    from bloodcell.storage.database import Database


def pending_nights(settings: InboxSettings, database: Database) -> list[Path]:
    """Returns the nights' folders that were never completely ingested or have changed since, oldest first.

    Folders are compared by the time of their newest entry. A file that was set aside is also compared by its own time
    and size, so that it is read again if it was completed in place. A folder that cannot be read is due: ingesting it
    says why.

    Args:
        settings: The drops folder.
        database: The ledger of what was ingested.
    """
    file = tables.drop_file
    folders = read_drops(settings).nights
    aside = sa.select(file.c.night, file.c.path, file.c.size_bytes, file.c.changed_ns)
    with database.connect() as connection:
        rows = connection.execute(sa.select(tables.drop.c.night, tables.drop.c.folders_changed_ns))
        done = {row.night: row.folders_changed_ns for row in rows}
        set_aside = connection.execute(
            aside.where(file.c.outcome == sa.literal_column("'quarantined'"), file.c.night.in_(folders))
        )
        completed = {row.night for row in set_aside if _was_completed(folders[row.night], *row[1:])}
    return [path for night, path in folders.items() if night in completed or done.get(night) != _newest_ns(path)]


def _newest_ns(path: Path) -> int:
    try:
        return folders_changed_ns(path)
    except OSError:
        return -1  # unlike any folder that was read


def _was_completed(folder: Path, path: str, size_bytes: int, changed_file_ns: int) -> bool:
    try:
        status = (folder / path).lstat()
    except (OSError, ValueError):  # gone, or a name that is not UTF-8; its folder's time shows that it changed
        return False
    return stat.S_ISREG(status.st_mode) and (status.st_size, changed_ns(status)) != (size_bytes, changed_file_ns)
