"""Folders that other programs write into: listed, settled and read; nothing in them is moved, changed or deleted.

    listing          the entries of a folder, sub-folder by sub-folder
    ignoring         which names are ignored
    settling         when a folder or file is completely written: marked, or unchanged for a while
    unchanged_files  reading a file only as it was listed
    night_folders    the nights in the drops folder, what else is in it, and the state of each night
    pending_nights   which of them are due

`ingest` reads drops with these functions, `labels` reads its inbox, and `service` watches for complete nights.
"""

from __future__ import annotations

from bloodcell.inbox.ignoring import ignore_reason, is_unfinished
from bloodcell.inbox.listing import ListedFile, ListedFolder, list_folder
from bloodcell.inbox.night_folders import DropsFolder, completed_state, night_of, read_drops
from bloodcell.inbox.pending_nights import pending_nights
from bloodcell.inbox.settling import COMPLETE_MARKER, is_settled
from bloodcell.inbox.unchanged_files import StillWrittenError, read_unchanged

__all__ = [
    "COMPLETE_MARKER",
    "DropsFolder",
    "ListedFile",
    "ListedFolder",
    "StillWrittenError",
    "completed_state",
    "ignore_reason",
    "is_settled",
    "is_unfinished",
    "list_folder",
    "night_of",
    "pending_nights",
    "read_drops",
    "read_unchanged",
]
