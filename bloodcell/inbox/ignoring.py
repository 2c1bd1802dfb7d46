"""Entries of an inbox that are ignored because of their names."""

from __future__ import annotations

from typing import Final

_SYSTEM_NAMES: Final = frozenset(
    {"thumbs.db", "desktop.ini", "ehthumbs.db"}
    | {"@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx"}
)
_UNFINISHED: Final = (".tmp", ".part", ".partial", ".filepart", ".crdownload", "~")
_OPEN_IN_A_SPREADSHEET: Final = "~$"


def ignore_reason(path: str) -> str | None:
    """Returns the rule by which a file is ignored, hidden_file or system_file; None for a file to be read.

    Args:
        path: Relative to the folder that was listed; a file below a hidden folder is hidden.
    """
    names = path.split("/")
    if any(name.startswith(".") for name in names):
        return "hidden_file"
    if any(name.lower() in _SYSTEM_NAMES for name in names):
        return "system_file"
    return None


def is_unfinished(name: str) -> bool:
    """Returns whether this is the name of a file still being copied, or of a spreadsheet's lock on an open file."""
    return name.startswith(_OPEN_IN_A_SPREADSHEET) or name.lower().endswith(_UNFINISHED)
