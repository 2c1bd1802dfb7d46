"""Decides when a folder into which another program writes is completely written."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

COMPLETE_MARKER: Final = ".complete"
"""Name of the file that says that a night's folder is completely written."""


def changed_ns(status: os.stat_result) -> int:
    """Returns when an entry arrived or was last changed, in nanoseconds since 1970 by the file server's clock.

    Copying with preserved times (rsync -t, cp -p) keeps the old mtime; ctime says when the entry arrived. An mtime in
    the future, from an analyser whose clock is wrong, is not used: the slide would never count as completely written.
    """
    if status.st_mtime_ns > time.time_ns():
        return status.st_ctime_ns
    return max(status.st_mtime_ns, status.st_ctime_ns)


def is_settled(newest_change_ns: int, marker_ns: int | None, settle_s: float) -> bool:
    """Returns whether a file or folder is completely written.

    That is so if it was marked complete after its last change, or if nothing changed for `settle_s` seconds.

    Args:
        newest_change_ns: Its last change, in nanoseconds since 1970.
        marker_ns: When it was marked complete; None where it was not.
        settle_s: Seconds without change after which it counts as complete without a marker.
    """
    if marker_ns is not None and newest_change_ns <= marker_ns:
        return True
    return time.time_ns() - newest_change_ns >= settle_s * 1e9


def marker_changed_ns(folder: Path) -> int | None:
    """Returns when a folder was marked complete, in nanoseconds since 1970; None if there is no marker."""
    try:
        return changed_ns((folder / COMPLETE_MARKER).lstat())
    except FileNotFoundError:
        return None


def folders_changed_ns(folder: Path) -> int:
    """Returns when an entry was last added to, or removed from, a folder or a folder directly in it.

    Raises:
        OSError: A folder cannot be listed.
    """
    newest = changed_ns(folder.stat())
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                newest = max(newest, changed_ns(entry.stat(follow_symlinks=False)))
    return newest
