"""What a comparison of models takes and returns: the hold-out, each model's predictions, figures, differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bloodcell.evaluation.call_evaluation import Evaluation
    from bloodcell.evaluation.differential_agreement import Agreement
    from bloodcell.evaluation.out_of_scope import OutOfScope
    from bloodcell.evaluation.patient_intervals import Change, Interval

Role = Literal["candidate", "champion", "anchor", "challenger"]
"""The anchor is the first champion that a person approved, where the champion is another one: many small losses, each
within what a gate allows, add up, and only a model that stays the same shows it."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """Labelled cells that no model was trained on; n may be 0.

    Attributes:
        truth: int64 (n,), index of the true class in `CELL_CLASSES`.
        patients: int64 (n,), any number for each patient, different from all others.
        slides: int64 (n,), any number for each slide, different from all others.
        out_of_scope_patients: int64 (m,), patients of the labelled cells out of scope; m may be 0.
    """

    truth: NDArray[np.int64]
    patients: NDArray[np.int64]
    slides: NDArray[np.int64]
    out_of_scope_patients: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """One model's predictions for the n cells of the hold-out, and for m labelled cells that are out of scope.

    Attributes:
        model_id: The bundle's model id.
        variant: The bundle's variant.
        role: The model's role in this comparison.
        probabilities: float (n, 8), in the order of `CELL_CLASSES`.
        unclassified: bool (n,), cells without a call (`bloodcell.cells.calls.Calls.unclassified`).
        novelty: float (n,), larger for cells that are less like the training cells.
        out_of_scope_unclassified: bool (m,), cells out of scope without a call; m may be 0.
        out_of_scope_novelty: float (m,).
        novelty_threshold: The bundle's threshold, for display.
    """

    model_id: str
    variant: str
    role: Role
    probabilities: NDArray[np.floating]
    unclassified: NDArray[np.bool_]
    novelty: NDArray[np.floating]
    out_of_scope_unclassified: NDArray[np.bool_]
    out_of_scope_novelty: NDArray[np.floating]
    novelty_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """A model's figures of one class, by its calls; None where the total is 0.

    Attributes:
        cell_class: One of `CELL_CLASSES`.
        n_true: Cells of the class.
        n_called: Cells that the model called so.
        precision: Of the cells called so, those of the class.
        sensitivity: Of the cells of the class with a call, those called so.
        unclassified: Of the cells of the class, those without a call.
    """

    cell_class: str
    n_true: int
    n_called: int
    precision: Interval | None
    sensitivity: Interval | None
    unclassified: Interval | None


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """How good one model is on the hold-out, with intervals over patients.

    Attributes:
        model_id: The bundle's model id.
        variant: The bundle's variant.
        role: The model's role in this comparison.
        accuracy: Cells whose most probable class is the true one.
        macro_f1: Mean F1 over the classes that occur.
        unclassified: Cells without a call.
        covered_accuracy: Of the cells with a call, those called correctly; None without calls.
        calibration: Gap between confidence and accuracy beyond chance, in 0..1 (`calibration_interval`).
        held_back: Of the cells out of scope, those without a call; None without such cells.
        classes: In the order of `CELL_CLASSES`.
        evaluation: Confusion matrices, reliability, and exact intervals that treat cells as independent.
        out_of_scope: How it treats cells that are out of scope.
        agreement: Its differentials against those of the labels.
    """

    model_id: str
    variant: str
    role: Role
    accuracy: Interval
    macro_f1: Interval
    unclassified: Interval
    covered_accuracy: Interval | None
    calibration: Interval
    held_back: Interval | None
    classes: tuple[ClassFigures, ...]
    evaluation: Evaluation
    out_of_scope: OutOfScope
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """Candidate minus another model in one class.

    Attributes:
        cell_class: One of `CELL_CLASSES`.
        n_true: Hold-out cells of the class.
        n_lost: Of these, cells of which only the other model's most probable class is right.
        n_won: Of these, cells of which only the candidate's is right.
        top_sensitivity: Difference of the shares whose most probable class is right; None without cells.
        sensitivity: Difference in sensitivity among called cells; None where either model calls none of the cells.
        precision: Difference in precision; None where either model calls no cell so.
        unclassified: Difference of the shares left unclassified; None without cells.
    """

    cell_class: str
    n_true: int
    n_lost: int
    n_won: int
    top_sensitivity: Change | None
    sensitivity: Change | None
    precision: Change | None
    unclassified: Change | None

    @property
    def n_net_lost(self) -> int:
        """Cells lost minus cells won; negative where the candidate is better."""
        return self.n_lost - self.n_won


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus another model, paired: both are judged on the same cells of the same patients.

    Attributes:
        other_id: The other model.
        accuracy: In -1..1; its interval is never narrower than if cells were independent.
        macro_f1: In -1..1.
        unclassified: Difference of the shares left unclassified, in -1..1.
        held_back: Difference of the shares of cells out of scope left unclassified; None without such cells.
        n_only_candidate: Cells that only the candidate calls correctly.
        n_only_other: Cells that only the other model calls correctly.
        mcnemar_p: Exact two-sided p of these two numbers; treats cells as independent.
        classes: In the order of `CELL_CLASSES`.
    """

    other_id: str
    accuracy: Change
    macro_f1: Change
    unclassified: Change
    held_back: Change | None
    n_only_candidate: int
    n_only_other: int
    mcnemar_p: float
    classes: tuple[ClassDifference, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One candidate compared with the champion; plain numbers, so that `dataclasses.asdict` of it is JSON.

    Attributes:
        candidate_id: Model id.
        champion_id: Model id, None where there is no champion.
        n_cells: Hold-out cells.
        n_patients: Their patients.
        n_slides: Their slides.
        n_out_of_scope: Labelled cells that are out of scope.
        n_by_class: Hold-out cells of each class, in the order of `CELL_CLASSES`.
        n_patients_by_class: Patients of these cells.
        n_patients_out_of_scope: Patients of the cells out of scope.
        models: Candidate, champion, anchor and challengers; empty where the hold-out is empty.
        difference: Candidate minus champion; None without a champion or a hold-out.
        anchor_difference: Candidate minus anchor; None where the champion is the anchor, or without a hold-out.
    """

    candidate_id: str
    champion_id: str | None
    n_cells: int
    n_patients: int
    n_slides: int
    n_out_of_scope: int
    n_by_class: tuple[int, ...]
    n_patients_by_class: tuple[int, ...]
    n_patients_out_of_scope: int
    models: tuple[ModelFigures, ...]
    difference: Difference | None
    anchor_difference: Difference | None

    @property
    def candidate(self) -> ModelFigures | None:
        """The candidate's figures, None where the hold-out is empty."""
        return next((model for model in self.models if model.role == "candidate"), None)

    @property
    def champion(self) -> ModelFigures | None:
        """The champion's figures, None without one, or where the hold-out is empty."""
        return next((model for model in self.models if model.role == "champion"), None)
