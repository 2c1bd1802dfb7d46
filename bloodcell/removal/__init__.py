"""Removes data on purpose: all that is known of a patient or a slide, and what is older than its setting.

erasing          removes the rows in one transaction that records the erasure; a preview does the same and rolls it back
leftovers        removes what is outside the database: stored images, kept features, pages, names in logs
names_in_texts   finds the names of slides and patients in texts and blanks them out
airflow_texts    does that in the tables of the Airflow that `bloodcell up` runs
retention        removes images, logs, features and snapshots by their age
"""

from __future__ import annotations

from bloodcell.removal.erasing import Erasure, erase, erased_images, finish_interrupted, preview_erasure
from bloodcell.removal.retention import Removal, remove_old

__all__ = [
    "Erasure",
    "Removal",
    "erase",
    "erased_images",
    "finish_interrupted",
    "preview_erasure",
    "remove_old",
]
