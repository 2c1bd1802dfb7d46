"""Adds up a slide's calls into its differential, with exact intervals, flags and the agreement with the analyser.

adding_up            finds the slides that are due
counting             turns counts of called cells into a differential
differential_rows    counts the calls in Postgres and writes the rows
reference_ranges     reference ranges of adults, and the flags that follow from them
stored_differential  reads a differential back
differential_tables  shows it
"""

from bloodcell.differential.adding_up import write_due_differentials
from bloodcell.differential.stored_differential import SlideDifferential, read_differential

__all__ = ["SlideDifferential", "read_differential", "write_due_differentials"]
