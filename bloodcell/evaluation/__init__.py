"""How good a model's calls are on labelled images: figures with their limits, tables, plots.

One model:          evaluating -> metrics -> showing, plots
Models compared:    comparing -> outcomes, resampling, agreement, out_of_scope -> comparison
"""

from bloodcell.evaluation.comparing import compare, mcnemar_exact
from bloodcell.evaluation.comparison import Answers, Comparison, Holdout
from bloodcell.evaluation.metrics import Evaluation, evaluate_calls

__all__ = ["Answers", "Comparison", "Evaluation", "Holdout", "compare", "evaluate_calls", "mcnemar_exact"]
