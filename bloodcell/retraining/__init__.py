"""Labels become a better model, and only a proven one takes over.

splitting    each patient's split: training, validation, hold-out; frozen at first use
snapshot     the labels of a moment as a data set that never changes
runs         a retraining: what was asked, and how it ended
candidates   training a variant on a data set
validating   candidates, champion and challengers on the same hold-out; gates, page
promoting    an approved candidate becomes champion, after the gates were looked at again
"""

from bloodcell.retraining.candidates import train_candidate, train_on_labels
from bloodcell.retraining.promoting import Approval, end_training_run, promote_candidate
from bloodcell.retraining.training_runs import Request, TrainingRun, begin_training_run
from bloodcell.retraining.validating import Validated, compare_models, validate_candidates, validate_model

__all__ = [
    "Approval",
    "Request",
    "TrainingRun",
    "Validated",
    "begin_training_run",
    "compare_models",
    "end_training_run",
    "promote_candidate",
    "train_candidate",
    "train_on_labels",
    "validate_candidates",
    "validate_model",
]
