"""How good a model's calls are on labelled images: figures with their limits, tables, plots.

evaluating -> metrics -> showing, plots
"""

from bloodcell.evaluation.metrics import Evaluation, evaluate_calls

__all__ = ["Evaluation", "evaluate_calls"]
