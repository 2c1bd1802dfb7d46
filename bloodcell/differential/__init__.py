"""Adds up a slide's calls to its differential, with exact intervals, flags and the analyser's agreement.

adding_up            finds the slides that are due
counting             counts of called cells become a differential
differential_rows    counts in Postgres and writes
reference_ranges     ranges of adults, and the flags that follow from them
stored_differential  reads a differential back
differential_tables  shows it
"""

from bloodcell.differential.adding_up import write_due_differentials
from bloodcell.differential.stored_differential import SlideDifferential, read_differential

__all__ = ["SlideDifferential", "read_differential", "write_due_differentials"]
