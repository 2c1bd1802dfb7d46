"""How much of the disk each part of an installation uses: quickly, however many files there are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.presentation.numbers import counted
from bloodcell.storage.embedded import AIRFLOW_DATABASE
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import sqlalchemy as sa

    from bloodcell.settings import Settings

_SQL: Final = load_statements("service/disk_use.sql")

FOLDERS: Final = {
    "logs": ("logs", "airflow/logs", "postgres/log"),
    "kept features and trainings": ("training",),
    "bundles": ("bundles", "cache", "store/models", "store/reports"),
}
"""Part -> its folders and files below the data folder."""
_MAX_ENTRIES: Final = 50_000
_MAX_S: Final = 2.0
_COUNTED_ONE_BY_ONE: Final = 200_000
"""Images up to which their sizes are added up; beyond that, they are estimated from a sample."""


@dataclass(frozen=True, slots=True)
class PartSize:
    """The size of one part.

    Attributes:
        part: database, Airflow's tables, images, logs ...
        n_bytes: Its bytes.
        is_complete: False if there was no time to look at everything, so that it is at least this.
        note: What else is known, such as the number of images; empty if nothing.
    """

    part: str
    n_bytes: int
    is_complete: bool = True
    note: str = ""

    def __str__(self) -> str:
        bound = "" if self.is_complete else "at least "
        note = f" ({self.note})" if self.note else ""
        return f"{self.part} {bound}{size_text(self.n_bytes)}{note}"


def database_sizes(connection: sa.Connection) -> list[PartSize]:
    """Returns the sizes of the databases and of the images, of which the store may hold millions."""
    sizes = dict(tuple(row) for row in connection.execute(_SQL["databases"], {"airflow": AIRFLOW_DATABASE}))
    airflow = sizes.pop(AIRFLOW_DATABASE, None)
    parts = [PartSize("database", n) for n in sizes.values()]
    if airflow is not None:
        parts.append(PartSize("Airflow's tables", airflow))
    n_images = connection.scalar(_SQL["n_images"]) or 0
    if n_images <= _COUNTED_ONE_BY_ONE:
        n_images, n_bytes = connection.execute(_SQL["images"]).one()
        return [*parts, PartSize("images", int(n_bytes), note=counted(n_images, "image"))]
    mean, share_kept = connection.execute(_SQL["sampled_images"]).one()
    n_kept = round(share_kept * n_images)
    return [*parts, PartSize("images", round(mean * n_kept), note=f"about {counted(n_kept, 'image')}")]


def folder_sizes(settings: Settings) -> list[PartSize]:
    """Returns the sizes of the other parts of the data folder; looks at a limited number of files, for 2 s at most."""
    deadline = time.monotonic() + _MAX_S
    parts = []
    for part, paths in FOLDERS.items():
        n_bytes, is_complete = 0, True
        sizes = (size for path in paths for size in _file_sizes(settings.data_dir / path))
        for n_entries, size in enumerate(sizes, start=1):
            n_bytes += size
            if n_entries >= _MAX_ENTRIES or time.monotonic() > deadline:
                is_complete = False
                break
        parts.append(PartSize(part, n_bytes, is_complete))
    return parts


def n_pending_erasures(connection: sa.Connection) -> int:
    """Returns the number of erasures that were interrupted before everything outside the database was removed."""
    return int(connection.scalar(_SQL["n_pending_erasures"]) or 0)


def size_text(n_bytes: int) -> str:
    """Returns a size in the unit in which it has one to three digits before the point."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= one:
            return f"{n_bytes / one:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.1f} kB"


def _file_sizes(path: Path) -> Iterator[int]:
    if path.is_file():
        yield path.stat().st_size
    waiting = [path]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.stat().st_size
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
