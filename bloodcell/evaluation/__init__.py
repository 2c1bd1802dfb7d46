"""Shows how good models' calls are on labelled images: figures with confidence intervals, tables and plots.

One model:

    bundle_evaluation       runs bundles over a folder of labelled images
    call_evaluation         labels and calls become figures
    evaluation_tables       an evaluation on the terminal, and as JSON
    evaluation_plots        an evaluation as a picture

Models compared:

    model_comparison        predictions of several models on the same hold-out become a comparison
    comparison_records      what a comparison takes and returns
    patient_intervals       intervals that allow for other patients
    differential_agreement  differentials by calls against differentials by labels
    passing_bablok          the line by which two methods that both err are compared
    comparison_plots        a comparison as pictures
    calibration_interval    how far confidence is from accuracy, beyond chance
    out_of_scope            cells that belong to none of the eight classes

model_speed measures how many cells per second models classify on this machine.
"""

from bloodcell.evaluation.bundle_evaluation import BundleEvaluation, evaluate_bundles
from bloodcell.evaluation.call_evaluation import Evaluation, evaluate_calls
from bloodcell.evaluation.comparison_records import Comparison, Holdout, Predictions
from bloodcell.evaluation.model_comparison import compare, mcnemar_exact

__all__ = [
    "BundleEvaluation",
    "Comparison",
    "Evaluation",
    "Holdout",
    "Predictions",
    "compare",
    "evaluate_bundles",
    "evaluate_calls",
    "mcnemar_exact",
]
