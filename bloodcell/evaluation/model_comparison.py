"""Predictions of several models for the same hold-out become a comparison: figures, and candidate minus champion.

    Holdout, Predictions of each model -> compare -> Comparison

All models predict the same cells of the same patients, and every interval comes from a bootstrap over patients with the
same draws for all of them (`resampling`). A cell counts as correct here when its most probable class is the true one;
cells that a model leaves unclassified are counted separately.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import bdtr

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.metrics import N_OUTCOMES, Figures, Share, figures_of, outcomes
from bloodcell.errors import TrainingDataError
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
from bloodcell.evaluation.resampling import (
    N_REPLICATES,
    SEED,
    Interval,
    counts_by_patient,
    difference_interval,
    drawn_sums,
    interval,
    share_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_ROLES: Final = ("candidate", "champion", "challenger")


def compare(
    holdout: Holdout, predictions: Sequence[Predictions], *, seed: int = SEED, n_replicates: int = N_REPLICATES
) -> Comparison:
    """Returns every model's figures on the hold-out, and how the candidate differs from the champion.

    Args:
        holdout: The labelled cells; without any, the comparison has no figures and no gate passes.
        predictions: Of one candidate, of at most one champion, and of any number of challengers.
        seed: Seed of the bootstrap.
        n_replicates: Draws of the bootstrap.

    Raises:
        ValueError: Shapes, classes or roles that do not match.
        TrainingDataError: A model whose probabilities are not finite.
    """
    ordered = _checked(holdout, predictions)
    champion = next((each for each in ordered if each.role == "champion"), None)
    patients, row = np.unique(holdout.patients, return_inverse=True)
    counted = _counted(holdout, ordered, row, seed=seed, n_replicates=n_replicates)
    return Comparison(
        candidate_id=ordered[0].model_id,
        champion_id=champion.model_id if champion else None,
        n_cells=len(holdout.truth),
        n_patients=len(patients),
        n_slides=len(np.unique(holdout.slides)),
        n_out_of_scope=len(ordered[0].out_of_scope_novelty),
        n_by_class=tuple(np.bincount(holdout.truth, minlength=len(CELL_CLASSES)).tolist()),
        n_replicates=n_replicates,
        seed=seed,
        models=tuple(_model_figures(holdout, each) for each in counted),
        difference=_difference(holdout, counted[0], counted[1]) if champion and counted else None,
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
        figures: Figures of all cells, then of each draw of patients.
        by_patient: Figures of each patient's cells.
    """

    predictions: Predictions
    right: NDArray[np.bool_]
    top: NDArray[np.int64]
    figures: Figures
    by_patient: Figures


def _checked(holdout: Holdout, predictions: Sequence[Predictions]) -> list[Predictions]:
    """Returns the predictions, the candidate's first, then the champion's."""
    roles = Counter(each.role for each in predictions)
    if roles["candidate"] != 1 or roles["champion"] > 1 or roles.keys() - set(_ROLES):
        raise ValueError(f"Expected one candidate, at most one champion, and challengers. Received: {dict(roles)}")
    n_cells, n_classes = len(holdout.truth), len(CELL_CLASSES)
    if holdout.patients.shape != (n_cells,) or holdout.slides.shape != (n_cells,):
        raise ValueError(
            f"Expected truth, patients and slides of the same cells. "
            f"Received: {holdout.truth.shape}, {holdout.patients.shape} and {holdout.slides.shape}"
        )
    if n_cells and (holdout.truth.min() < 0 or holdout.truth.max() >= n_classes):
        raise ValueError(f"Expected truth in 0..{n_classes - 1}. Received: {np.unique(holdout.truth)}")
    n_out_of_scope = len(predictions[0].out_of_scope_novelty)
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


def _counted(
    holdout: Holdout, predictions: Sequence[Predictions], row: NDArray[np.int64], *, seed: int, n_replicates: int
) -> list[_Counted]:
    """Returns every model's outcomes, counted under the same draws; empty without a hold-out."""
    if not len(row):
        return []
    n_patients = int(row.max()) + 1
    tops = [each.probabilities.argmax(axis=1) for each in predictions]
    counts = np.stack(
        [
            counts_by_patient(row, n_patients, outcomes(holdout.truth, top, each.unclassified), N_OUTCOMES)
            for each, top in zip(predictions, tops, strict=True)
        ],
        axis=1,
    )
    flat = counts.reshape(n_patients, -1)
    draws = drawn_sums(flat, n_replicates=n_replicates, seed=seed)
    sums = np.vstack([flat.sum(axis=0), draws]).reshape(1 + n_replicates, len(predictions), N_OUTCOMES)
    return [
        _Counted(
            predictions=each,
            right=tops[i] == holdout.truth,
            top=tops[i],
            figures=figures_of(sums[:, i]),
            by_patient=figures_of(counts[:, i]),
        )
        for i, each in enumerate(predictions)
    ]


def _model_figures(holdout: Holdout, counted: _Counted) -> ModelFigures:
    predictions, figures, by_patient = counted.predictions, counted.figures, counted.by_patient
    evaluation = evaluate_calls(holdout.truth, predictions.probabilities, predictions.unclassified)
    return ModelFigures(
        model_id=predictions.model_id,
        variant=predictions.variant,
        role=predictions.role,
        accuracy=_certain(share_interval(figures.accuracy, by_patient.accuracy)),
        macro_f1=interval(figures.macro_f1, n_patients=len(by_patient.macro_f1)),
        unclassified=_certain(share_interval(figures.unclassified, by_patient.unclassified)),
        covered_accuracy=share_interval(figures.covered_accuracy, by_patient.covered_accuracy),
        calibration_error=float(evaluation.calibration_error),
        classes=tuple(_class_figures(i, figures, by_patient) for i in range(len(CELL_CLASSES))),
        evaluation=evaluation,
        out_of_scope=judge_out_of_scope(
            predictions.novelty,
            predictions.out_of_scope_novelty,
            predictions.out_of_scope_unclassified,
            novelty_threshold=predictions.novelty_threshold,
        ),
        agreement=slide_agreement(holdout.slides, holdout.truth, counted.top, predictions.unclassified),
    )


def _class_figures(index: int, figures: Figures, by_patient: Figures) -> ClassFigures:
    precision, sensitivity, specificity = (
        share_interval(share.of_class(index), patients.of_class(index))
        for share, patients in (
            (figures.precision, by_patient.precision),
            (figures.sensitivity, by_patient.sensitivity),
            (figures.specificity, by_patient.specificity),
        )
    )
    return ClassFigures(
        cell_class=CELL_CLASSES[index],
        n_true=int(figures.sensitivity.total[0, index]),
        n_called=int(figures.precision.total[0, index]),
        precision=precision,
        sensitivity=sensitivity,
        specificity=specificity,
        f1=float(figures.f1[0, index]),
    )


def _difference(holdout: Holdout, candidate: _Counted, champion: _Counted) -> Difference:
    n_only_candidate, n_only_champion, p = mcnemar_exact(candidate.right, champion.right)
    n_patients = len(candidate.by_patient.macro_f1)
    macro_f1 = candidate.figures.macro_f1 - champion.figures.macro_f1
    return Difference(
        accuracy=_certain(_minus(candidate, champion, lambda figures: figures.accuracy)),
        macro_f1=interval(macro_f1, n_patients=n_patients, lowest=-1.0),
        unclassified=_certain(_minus(candidate, champion, lambda figures: figures.unclassified)),
        n_only_candidate=n_only_candidate,
        n_only_champion=n_only_champion,
        mcnemar_p=p,
        classes=tuple(_class_difference(i, holdout, candidate, champion) for i in range(len(CELL_CLASSES))),
    )


def _class_difference(index: int, holdout: Holdout, candidate: _Counted, champion: _Counted) -> ClassDifference:
    is_of_class = holdout.truth == index
    return ClassDifference(
        cell_class=CELL_CLASSES[index],
        n_true=int(is_of_class.sum()),
        n_lost=int((is_of_class & champion.right & ~candidate.right).sum()),
        n_won=int((is_of_class & candidate.right & ~champion.right).sum()),
        sensitivity=_minus(candidate, champion, lambda figures: figures.sensitivity.of_class(index)),
        precision=_minus(candidate, champion, lambda figures: figures.precision.of_class(index)),
    )


def _minus(candidate: _Counted, champion: _Counted, share_of: Callable[[Figures], Share]) -> Interval | None:
    return difference_interval(
        share_of(candidate.figures),
        share_of(champion.figures),
        share_of(candidate.by_patient),
        share_of(champion.by_patient),
    )


def _certain(found: Interval | None) -> Interval:
    """Returns the interval of a share of all cells, which exists because there is at least one cell."""
    if found is None:
        raise ValueError("Expected at least one cell. Received: none")
    return found
