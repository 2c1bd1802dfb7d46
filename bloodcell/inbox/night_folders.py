"""The nights' folders in the drops folder, everything in it that is no night, and the state of a night's content."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.cells.names import TRUTH_ENDING
from bloodcell.errors import ConfigurationError
from bloodcell.inbox.ignoring import ignore_reason
from bloodcell.inbox.listing import list_folder
from bloodcell.inbox.settling import COMPLETE_MARKER, folders_changed_ns, is_settled, marker_changed_ns
from bloodcell.settings import NIGHT_PATTERN
from bloodcell.visible_text import visible

if TYPE_CHECKING:
    from bloodcell.settings import InboxSettings

_CLOCKS_APART: Final = timedelta(days=1)
"""A night may have begun where the analyser is, and not yet where bloodcell runs."""


@dataclass(frozen=True, slots=True)
class DropsFolder:
    """What the drops folder has.

    Attributes:
        nights: Night -> its folder, oldest first.
        problems: Name of an entry that is no night, or of a night in the future -> what is wrong. Hidden and system
            entries are left out.
    """

    nights: Mapping[date, Path]
    problems: Mapping[str, str]


def night_of(folder: Path, pattern: str) -> date:
    """Returns the night that a folder is named after.

    Args:
        folder: The folder.
        pattern: `BLOODCELL_NIGHT_PATTERN`.

    Raises:
        ConfigurationError: The name does not match the pattern, or there is no such date.
    """
    if night := _night(folder.name, pattern):
        return night
    raise ConfigurationError(f"{folder} is not a night's folder: {_misnamed(folder.name, pattern)}")


def read_drops(settings: InboxSettings) -> DropsFolder:
    """Returns the nights in the drops folder, and everything in it that is no night.

    Raises:
        ConfigurationError: The folder is missing, for instance because a share is not mounted, or cannot be read.
    """
    drops = settings.drops
    try:
        with os.scandir(drops) as listed:
            entries = sorted(listed, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise ConfigurationError(
            f"The drops folder {drops} cannot be read: {error.strerror}. Mount the share, or set BLOODCELL_DROPS_DIR "
            "to the folder that the analysers write nights into"
        ) from error
    nights: dict[date, Path] = {}
    problems: dict[str, str] = {}
    latest = datetime.now(UTC).date() + _CLOCKS_APART
    for entry in entries:
        if ignore_reason(entry.name) or entry.name.endswith(TRUTH_ENDING):
            continue
        night = _night(entry.name, settings.night_pattern)
        if not entry.is_dir(follow_symlinks=False):
            problems[_shown(entry.name)] = "not a folder; links are not followed, and images belong in a slide's folder"
        elif night is None:
            problems[_shown(entry.name)] = _misnamed(entry.name, settings.night_pattern)
        elif night in nights:
            problems[_shown(entry.name)] = f"a second folder of night {night}, beside {nights[night].name}"
        else:
            nights[night] = Path(entry.path)
            if night > latest:
                problems[_shown(entry.name)] = "in the future; check the clock of the analyser"
    return DropsFolder(dict(sorted(nights.items())), problems)


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


def _night(name: str, pattern: str) -> date | None:
    match = re.fullmatch(pattern, name)
    try:
        return date(*(int(match[part]) for part in ("year", "month", "day"))) if match else None
    except (TypeError, ValueError):  # a group that matched nothing, or the 31st of February
        return None


def _misnamed(name: str, pattern: str) -> str:
    expected = "YYYY-MM-DD" if pattern == NIGHT_PATTERN else pattern
    return f"expected a date named as BLOODCELL_NIGHT_PATTERN says, {expected}, received {_shown(name)!r}"


def _shown(name: str) -> str:
    return visible(os.fsencode(name).decode("utf-8", "backslashreplace"))
