"""Folders that other programs write into: listed, settled and read; nothing in them is moved, changed or deleted.

    listing          the entries of a folder, sub-folder by sub-folder
    ignoring         which names are ignored
    settling         when a folder or file is completely written: marked, or unchanged for a while
    unchanged_files  reading a file only as it was listed
    night_folders    the nights below the drops folder, and the state of each
    pending_nights   which of them are due

`ingest` reads drops by these functions, `labels` its inbox, and `service` watches for complete nights.
"""
