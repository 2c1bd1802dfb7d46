"""Predictions of several models for the same hold-out become a comparison: figures, and candidate minus champion.

    Holdout, Predictions of each model -> compare -> Comparison

All models predict the same cells of the same patients, and every interval is over patients (`patient_intervals`).
Accuracy counts a cell as correct when its most probable class is the true one. The figures of each class are about the
calls, because these are what a laboratory reports: of the called cells how many are right, and how many cells have no
call.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from scipy.special import bdtr

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.metrics import N_OUTCOMES, Figures, Share, figures_of, outcomes
from bloodcell.errors import TrainingDataError
from bloodcell.evaluation.calibration_interval import calibration_interval
from bloodcell.evaluation.call_evaluation import evaluate_calls
from bloodcell.evaluation.comparison_records import (
    ClassDifference,
    ClassFigures,
    Comparison,
    Difference,
    Holdout,
    ModelFigures,
    Predictions,
)
from bloodcell.evaluation.differential_agreement import slide_agreement
from bloodcell.evaluation.out_of_scope import judge_out_of_scope
from bloodcell.evaluation.patient_intervals import (
    counts_by_patient,
    difference_interval,
    effective_patients,
    figure_interval,
    paired_interval,
    share_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bloodcell.evaluation.comparison_records import Role
    from bloodcell.evaluation.patient_intervals import Change, Interval

_Certain = TypeVar("_Certain")

_ROLES: Final = ("candidate", "champion", "anchor", "challenger")


def compare(holdout: Holdout, predictions: Sequence[Predictions]) -> Comparison:
    """Returns every model's figures on the hold-out, and how the candidate differs from the champion and the anchor.

    Args:
        holdout: The labelled cells; without any, the comparison has no figures and no gate passes.
        predictions: Of one candidate, of at most one champion, of at most one anchor, and of any number of challengers.

    Raises:
        ValueError: Shapes, classes or roles that do not match.
        TrainingDataError: A model whose probabilities are not finite.
    """
    ordered = _checked(holdout, predictions)
    patients, row = np.unique(holdout.patients, return_inverse=True)
    counted = {each.model_id: _counted(holdout, each, row) for each in ordered} if len(row) else {}
    by_role = {each.role: each.model_id for each in reversed(ordered)}

    def difference(role: Role) -> Difference | None:
        if role not in by_role or not counted:
            return None
        return _difference(holdout, counted[by_role["candidate"]], counted[by_role[role]])

    return Comparison(
        candidate_id=by_role["candidate"],
        champion_id=by_role.get("champion"),
        n_cells=len(holdout.truth),
        n_patients=len(patients),
        n_slides=len(np.unique(holdout.slides)),
        n_out_of_scope=len(holdout.out_of_scope_patients),
        n_patients_by_class=tuple(
            len(np.unique(holdout.patients[holdout.truth == index])) for index in range(len(CELL_CLASSES))
        ),
        n_patients_out_of_scope=len(np.unique(holdout.out_of_scope_patients)),
        n_by_class=tuple(np.bincount(holdout.truth, minlength=len(CELL_CLASSES)).tolist()),
        models=tuple(_model_figures(holdout, each) for each in counted.values()),
        difference=difference("champion"),
        anchor_difference=difference("anchor"),
    )


def mcnemar_exact(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Returns how many cells only a calls correctly, how many only b, and the exact two-sided p of these two numbers.

    If both were equally good, each cell that only one of them calls correctly would be a's with probability 1/2.

    Args:
        right_a: bool (n,).
        right_b: bool (n,), of the same cells.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12 (1947) 153-157; exact by the binomial.
    """
    n_only_a, n_only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n_discordant = n_only_a + n_only_b
    p = min(1.0, 2 * float(bdtr(min(n_only_a, n_only_b), n_discordant, 0.5))) if n_discordant else 1.0
    return n_only_a, n_only_b, p


@dataclass(frozen=True, slots=True)
class _Counted:
    """One model's outcomes, counted.

    Attributes:
        predictions: The model's predictions.
        right: bool (n,), whether the most probable class is the true one.
        top: int64 (n,), most probable classes.
        figures: Figures of all cells.
        by_patient: Figures of each patient's cells.
        macro_f1_without: float64 (n_patients,), macro F1 without the cells of each patient in turn.
        n_effective: The effective number of patients.
        calibration: Gap between confidence and accuracy.
        held_back: (n_patients with cells out of scope,), of these cells those without a call.
    """

    predictions: Predictions
    right: NDArray[np.bool_]
    top: NDArray[np.int64]
    figures: Figures
    by_patient: Figures
    macro_f1_without: NDArray[np.float64]
    n_effective: float
    calibration: Interval
    held_back: Share


def _checked(holdout: Holdout, predictions: Sequence[Predictions]) -> list[Predictions]:
    """Returns the predictions, the candidate's first, then the champion's."""
    roles = Counter(each.role for each in predictions)
    if len({each.model_id for each in predictions}) < len(predictions):
        raise ValueError(f"Expected each model once. Received: {[each.model_id[:12] for each in predictions]}")
    if roles["candidate"] != 1 or roles["champion"] > 1 or roles["anchor"] > 1 or roles.keys() - set(_ROLES):
        raise ValueError(
            f"Expected one candidate, at most one champion and one anchor, and challengers. Received: {dict(roles)}"
        )
    n_cells, n_classes = len(holdout.truth), len(CELL_CLASSES)
    if holdout.patients.shape != (n_cells,) or holdout.slides.shape != (n_cells,):
        raise ValueError(
            f"Expected truth, patients and slides of the same cells. "
            f"Received: {holdout.truth.shape}, {holdout.patients.shape} and {holdout.slides.shape}"
        )
    if n_cells and (holdout.truth.min() < 0 or holdout.truth.max() >= n_classes):
        raise ValueError(f"Expected truth in 0..{n_classes - 1}. Received: {np.unique(holdout.truth)}")
    n_out_of_scope = len(holdout.out_of_scope_patients)
    for each in predictions:
        expected = ((n_cells, n_classes), (n_cells,), (n_cells,), (n_out_of_scope,), (n_out_of_scope,))
        received = tuple(
            part.shape
            for part in (
                each.probabilities,
                each.unclassified,
                each.novelty,
                each.out_of_scope_unclassified,
                each.out_of_scope_novelty,
            )
        )
        if received != expected:
            raise ValueError(
                f"Expected predictions of shapes {expected}. Received from model {each.model_id[:12]}: {received}"
            )
        if n_broken := int((~np.isfinite(each.probabilities)).any(axis=1).sum()):
            raise TrainingDataError(
                f"Model {each.model_id[:12]} ({each.variant}) returns probabilities that are not finite for "
                f"{n_broken:,} of {n_cells:,} hold-out cells, so it cannot be judged. Train it again."
            )
    return sorted(predictions, key=lambda each: _ROLES.index(each.role))


def _counted(holdout: Holdout, predictions: Predictions, row: NDArray[np.int64]) -> _Counted:
    top = predictions.probabilities.argmax(axis=1)
    cells = outcomes(holdout.truth, top, predictions.unclassified)
    counts = counts_by_patient(row, int(row.max()) + 1, cells, N_OUTCOMES)
    whole = counts.sum(axis=0)
    patients, out_of_scope_row = np.unique(holdout.out_of_scope_patients, return_inverse=True)
    n_out_of_scope = np.bincount(out_of_scope_row, minlength=len(patients))
    n_held_back = np.bincount(out_of_scope_row[predictions.out_of_scope_unclassified], minlength=len(patients))
    return _Counted(
        predictions=predictions,
        right=top == holdout.truth,
        top=top,
        figures=figures_of(whole[None]),
        by_patient=figures_of(counts),
        n_effective=effective_patients(counts.sum(axis=1)),
        calibration=calibration_interval(predictions.probabilities.max(axis=1), top == holdout.truth, row),
        macro_f1_without=figures_of(whole - counts).macro_f1 if len(counts) > 1 else np.array([np.nan]),
        held_back=Share(n_held_back.astype(np.float64), n_out_of_scope.astype(np.float64)),
    )


def _model_figures(holdout: Holdout, counted: _Counted) -> ModelFigures:
    predictions, by_patient = counted.predictions, counted.by_patient
    evaluation = evaluate_calls(holdout.truth, predictions.probabilities, predictions.unclassified)
    return ModelFigures(
        model_id=predictions.model_id,
        variant=predictions.variant,
        role=predictions.role,
        accuracy=_certain(share_interval(by_patient.accuracy)),
        macro_f1=figure_interval(
            float(counted.figures.macro_f1[0]), counted.macro_f1_without, n_effective=counted.n_effective
        ),
        unclassified=_certain(share_interval(by_patient.unclassified)),
        covered_accuracy=share_interval(by_patient.covered_accuracy),
        calibration=counted.calibration,
        held_back=share_interval(counted.held_back),
        classes=tuple(_class_figures(i, counted) for i in range(len(CELL_CLASSES))),
        evaluation=evaluation,
        out_of_scope=judge_out_of_scope(
            predictions.novelty,
            predictions.out_of_scope_novelty,
            predictions.out_of_scope_unclassified,
            novelty_threshold=predictions.novelty_threshold,
        ),
        agreement=slide_agreement(holdout.slides, holdout.truth, counted.top, predictions.unclassified),
    )


def _class_figures(index: int, counted: _Counted) -> ClassFigures:
    by_patient = counted.by_patient
    return ClassFigures(
        cell_class=CELL_CLASSES[index],
        n_true=int(counted.figures.class_unclassified.total[0, index]),
        n_called=int(counted.figures.called_precision.total[0, index]),
        precision=share_interval(by_patient.called_precision.of_class(index)),
        sensitivity=share_interval(by_patient.called_sensitivity.of_class(index)),
        unclassified=share_interval(by_patient.class_unclassified.of_class(index)),
    )


def _difference(holdout: Holdout, candidate: _Counted, other: _Counted) -> Difference:
    n_only_candidate, n_only_other, p = mcnemar_exact(candidate.right, other.right)
    accuracy = _certain(difference_interval(candidate.by_patient.accuracy, other.by_patient.accuracy))
    lower, upper = paired_interval(n_only_candidate, n_only_other, len(holdout.truth))
    macro_f1 = float(candidate.figures.macro_f1[0] - other.figures.macro_f1[0])
    return Difference(
        other_id=other.predictions.model_id,
        accuracy=replace(accuracy, lower=min(accuracy.lower, lower), upper=max(accuracy.upper, upper)),
        macro_f1=figure_interval(
            macro_f1,
            candidate.macro_f1_without - other.macro_f1_without,
            n_effective=candidate.n_effective,
            lowest=-1.0,
        ),
        unclassified=_certain(difference_interval(candidate.by_patient.unclassified, other.by_patient.unclassified)),
        held_back=difference_interval(candidate.held_back, other.held_back),
        n_only_candidate=n_only_candidate,
        n_only_other=n_only_other,
        mcnemar_p=p,
        classes=tuple(_class_difference(i, holdout, candidate, other) for i in range(len(CELL_CLASSES))),
    )


def _class_difference(index: int, holdout: Holdout, candidate: _Counted, other: _Counted) -> ClassDifference:
    is_of_class = holdout.truth == index

    def minus(share_of: Callable[[Figures], Share]) -> Change | None:
        ours, theirs = share_of(candidate.by_patient), share_of(other.by_patient)
        return difference_interval(ours.of_class(index), theirs.of_class(index))

    return ClassDifference(
        cell_class=CELL_CLASSES[index],
        n_true=int(is_of_class.sum()),
        n_lost=int((is_of_class & other.right & ~candidate.right).sum()),
        n_won=int((is_of_class & candidate.right & ~other.right).sum()),
        top_sensitivity=minus(lambda figures: figures.sensitivity),
        sensitivity=minus(lambda figures: figures.called_sensitivity),
        precision=minus(lambda figures: figures.called_precision),
        unclassified=minus(lambda figures: figures.class_unclassified),
    )


def _certain(found: _Certain | None) -> _Certain:
    """Returns the interval of a share of all cells, which exists because there is at least one cell."""
    if found is None:
        raise ValueError("Expected at least one cell. Received: none")
    return found
