"""The nights' folders in the drops folder, and the state of a night's content."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from bloodcell.errors import ConfigurationError
from bloodcell.inbox.listing import list_folder
from bloodcell.inbox.settling import COMPLETE_MARKER, folders_changed_ns, is_settled, marker_changed_ns


def night_of(folder: Path) -> date:
    """Returns the night that a folder is named after.

    Raises:
        ConfigurationError: The name is not a date (YYYY-MM-DD).
    """
    try:
        night = date.fromisoformat(folder.name)
    except ValueError:
        night = None
    if night is None or night.isoformat() != folder.name:  # 20261121 would be a second folder of the same night
        raise ConfigurationError(
            f"A night's folder is named by its date: expected YYYY-MM-DD, received {folder.name!r} ({folder})."
        )
    return night


def night_folders(drops: Path) -> list[Path]:
    """Returns the nights' folders in the drops folder, oldest first; links and other entries are ignored."""
    if not drops.is_dir():
        return []
    return sorted(path for path in drops.iterdir() if not path.is_symlink() and path.is_dir() and _is_night(path))


def completed_state(night: Path, settle_s: float) -> str | None:
    """Returns a name for a night's present content; None while the night is still being written, or is empty.

    Two calls return the same name if and only if no file was added or changed between them.

    Args:
        night: The night's folder.
        settle_s: Seconds without change after which a night without a marker counts as complete.

    Raises:
        OSError: The folder cannot be read, or went away.
    """
    marker_ns = marker_changed_ns(night)
    if marker_ns is None and not is_settled(folders_changed_ns(night), None, settle_s):
        return None  # avoids listing every file of a night that is being copied
    newest_ns = 0
    for folder in list_folder(night):
        if folder.name:
            newest_ns = max(newest_ns, folder.newest_change_ns)
        else:
            newest_ns = max([newest_ns, *(f.changed_ns for f in folder.files if f.name != COMPLETE_MARKER)])
    if (newest_ns == 0 and marker_ns is None) or not is_settled(newest_ns, marker_ns, settle_s):
        return None
    return f"{newest_ns:x}"


def _is_night(path: Path) -> bool:
    try:
        night_of(path)
    except ConfigurationError:
        return False
    return True
