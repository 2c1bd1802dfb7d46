"""Stage 3: a slide's calls add up to its differential, with exact limits, flags and the analyser's agreement.

due (which slides) -> counting (pure) -> writing        reading and showing give it back
"""

from bloodcell.differential.due import write_due_differentials

__all__ = ["write_due_differentials"]
