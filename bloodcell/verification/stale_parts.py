"""Unfinished files that killed writers left in the data folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.storage.atomic_write import is_part
from bloodcell.storage.stored_objects import newest_change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bloodcell.settings import Settings

GRACE: Final = timedelta(hours=24)
"""Age below which a file without a purpose is left alone: its writer may still be at work, or write its row soon."""


def stale_parts(settings: Settings) -> Iterator[Path]:
    """Yields the unfinished files and folders in the data folder that nothing has changed for `GRACE`.

    Postgres, the inboxes and a store in the data folder are left out: the first two hold nothing of this kind, and the
    store is looked through by its own verification.
    """
    left_out = {str(settings.data_dir / "postgres"), str(settings.drops), str(settings.labels), settings.store}
    for folder, names, files in os.walk(settings.data_dir):
        parts = [name for name in (*names, *files) if is_part(name)]
        names[:] = [name for name in names if os.path.join(folder, name) not in left_out and name not in parts]  # noqa: PTH118
        for name in sorted(parts):
            if is_old(newest_change(path := Path(folder, name))):
                yield path


def is_old(changed_at: datetime | None) -> bool:
    """Returns whether something was last changed before the grace period; what is gone is not old."""
    return changed_at is not None and datetime.now(UTC) - changed_at > GRACE
