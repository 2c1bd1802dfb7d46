"""A slide's calls add up to its differential, with exact limits, flags and the analyser's agreement.

(calls) -> counting -> writing        adding_up finds the slides that are due; reading and showing give it to people
"""

from bloodcell.differential.adding_up import write_due_differentials
from bloodcell.differential.stored_differential import SlideDifferential, read_differential

__all__ = ["SlideDifferential", "read_differential", "write_due_differentials"]
