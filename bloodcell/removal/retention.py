"""Removes what is older than the settings say: stored images, task logs, kept features, snapshots that nothing uses.

Nothing is removed for which no age is set. Rows about slides, cells, calls and labels always stay.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store
from bloodcell.training.feature_cache import remove_features

if TYPE_CHECKING:
    import sqlalchemy as sa

    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("removal/retention.sql")

_BATCH_IMAGES: Final = 500
"""Images removed in one transaction, for which an ingest of the same images may have to wait."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed of one kind, or would be.

    Attributes:
        part: images, logs, features or snapshots.
        keep_days: Days that it is kept; None: for ever.
        n: Images, log files, sets of kept features, or snapshots.
        n_bytes: Their bytes, 0 where they are rows.
        elsewhere: Why none can be removed here, and what to do; empty if they can.
    """

    part: str
    keep_days: int | None
    n: int = 0
    n_bytes: int = 0
    elsewhere: str = ""


def remove_old(
    settings: Settings, database: Database, *, dry_run: bool = False, logs: Path | None = None
) -> list[Removal]:
    """Removes what is older than the settings say, and returns how much it was; doing it again does no harm.

    Args:
        settings: The ages, the store and the data folder.
        database: With the rights of the app.
        dry_run: Only count.
        logs: Folder of the logs of Airflow's tasks; None: that of `bloodcell up`.

    Raises:
        StoreUnavailableError: An image cannot be removed.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    logs = logs or settings.data_dir / "airflow" / "logs"
    kinds: tuple[tuple[str, int | None, Callable[[datetime], tuple[int, int]]], ...] = (
        ("images", settings.keep_images_days, lambda before: _images(settings, database, before, dry_run)),
        ("logs", settings.keep_logs_days, lambda before: _logs(logs, before, dry_run)),
        ("features", settings.keep_features_days, lambda before: _features(settings, before, dry_run)),
        ("snapshots", settings.keep_snapshots_days, lambda before: _snapshots(database, before, dry_run)),
    )
    now = datetime.now(UTC)
    return [
        Removal(part, days, *remove(now - timedelta(days=days))) if days is not None else Removal(part, None)
        for part, days, remove in kinds
    ]


def _images(settings: Settings, database: Database, before: datetime, dry_run: bool) -> tuple[int, int]:
    store, after = Store.of(settings), ""
    n, n_bytes = 0, 0
    while True:
        given = {"before": before, "after": after, "images": None, "at_most": _BATCH_IMAGES}
        found = database.transact(
            lambda connection, given=given: connection.execute(_SQL["old_images"], given).all()  # type: ignore[misc]
        )
        if not found:
            return n, n_bytes
        after = found[-1].sha256
        if not dry_run:
            images = [row.sha256 for row in found]
            removed = database.transact(
                lambda connection, images=images: _remove_images(connection, store, before, images)  # type: ignore[misc]
            )
            found = [row for row in found if row.sha256 in removed]
        n += len(found)
        n_bytes += sum(row.size_bytes for row in found)


def _remove_images(connection: sa.Connection, store: Store, before: datetime, images: list[str]) -> set[str]:
    connection.execute(_SQL["lock_images"], {"images": images})
    # an ingest may have brought one of them again before the lock
    given = {"before": before, "after": "", "images": images, "at_most": len(images)}
    still_old = {row.sha256 for row in connection.execute(_SQL["old_images"], given)}
    if still_old:
        store.remove_images(sorted(still_old))
    connection.execute(_SQL["mark_removed"], {"images": sorted(still_old)})
    return still_old


def _logs(folder: Path, before: datetime, dry_run: bool) -> tuple[int, int]:
    n, n_bytes = 0, 0
    for path, changed in _changes(folder):
        if changed.st_mtime < before.timestamp():
            n, n_bytes = n + 1, n_bytes + changed.st_size
            if not dry_run:
                path.unlink(missing_ok=True)
    if n and not dry_run:
        for parent, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):  # it still has files
                if Path(parent) != folder:
                    Path(parent).rmdir()
    return n, n_bytes


def _features(settings: Settings, before: datetime, dry_run: bool) -> tuple[int, int]:
    """Removes sets of features that no training has read, and checkpoints that none has written, since then."""
    training = settings.data_dir / "training"
    n, n_bytes = remove_features(training / "features", before.timestamp(), dry_run=dry_run)
    for folder in sorted(training.iterdir()) if training.is_dir() else ():
        if folder.name in {"features", "locks", "candidates"} or not folder.is_dir():
            continue
        files = [changed for _, changed in _changes(folder)]
        if max((changed.st_mtime for changed in files), default=folder.stat().st_mtime) < before.timestamp():
            n, n_bytes = n + 1, n_bytes + sum(changed.st_size for changed in files)
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
    return n, n_bytes


def _snapshots(database: Database, before: datetime, dry_run: bool) -> tuple[int, int]:
    def forget(connection: sa.Connection) -> int:
        unused = connection.execute(_SQL["unused_snapshots"], {"before": before}).all()
        if not dry_run:
            for row in unused:
                connection.execute(_SQL["forget_snapshot"], {"dataset_digest": row.dataset_digest})
        return len(unused)

    return database.transact(forget), 0


def _changes(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with suppress(FileNotFoundError):  # removed meanwhile
                if not path.is_symlink():
                    yield path, path.stat()
