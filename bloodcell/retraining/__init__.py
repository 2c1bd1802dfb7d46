"""Labels become a better model, and only a proven and approved one becomes champion.

states                the states of a retraining, and the one function that changes them
splitting             the split of each patient: training, validation or hold-out, for good
snapshot              the labels of a moment as a data set that never changes
label_status          counts of the labels, and of the cells that are new for a training
training_runs         a retraining on record: how it begins and ends
candidates            variants trained on the data set, or calibrated on it, and registered
site_images           the data set as a calibration takes it
validation_plan       which models are compared, on which data set
holdout_cells         the cells they are compared on
judging               the models run over these cells, and each candidate is judged
gates, class_gates    the conditions a candidate has to meet
validating            the whole validation, with its results recorded
validation_page       the page of a validation; validation_summary, validation_wording
approval              the question to a person, the answer, and the rules by which it counts
lockbox               cells that have judged no model yet, for a candidate that is about to be promoted
candidate_promotion   an approved candidate becomes champion
"""

from bloodcell.retraining.approval import ask_for_approval, record_answer
from bloodcell.retraining.candidate_promotion import promote_by_hand, promote_candidate
from bloodcell.retraining.candidates import train_candidate, train_on_labels
from bloodcell.retraining.states import ENDED_WELL, TrainingState
from bloodcell.retraining.training_runs import (
    Request,
    TrainingRun,
    begin_training_run,
    end_training_run,
    training_run_of,
)
from bloodcell.retraining.validating import Validated, compare_models, validate_candidates, validate_model

__all__ = [
    "ENDED_WELL",
    "Request",
    "TrainingRun",
    "TrainingState",
    "Validated",
    "ask_for_approval",
    "begin_training_run",
    "compare_models",
    "end_training_run",
    "promote_by_hand",
    "promote_candidate",
    "record_answer",
    "train_candidate",
    "train_on_labels",
    "training_run_of",
    "validate_candidates",
    "validate_model",
]
