"""A validation as one self-contained HTML page, which the approver reads and the store keeps.

The page depends only on its arguments and is stored under its digest: a validation that is repeated after a kill
gives the same page, byte for byte.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CLASS_NAMES, REPORT_ORDER
from bloodcell.evaluation import comparison_plots
from bloodcell.evaluation.differential_agreement import MIN_LEUCOCYTES
from bloodcell.presentation.templates import render_page
from bloodcell.registry.promotion_proof import all_passed
from bloodcell.retraining.gates import GATE_TITLES
from bloodcell.retraining.validation_wording import attempts, discordant_cells, gate_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bloodcell.evaluation.comparison_records import ClassDifference, ClassFigures, Comparison
    from bloodcell.registry.promotion_proof import Gate

_SPLIT_NAMES: Final = {
    "training": "Training",
    "validation": "Validation",
    "holdout": "Hold-out",
    "lockbox": "Lockbox",
    "out_of_scope": "Out of scope",
}


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split of the data set.

    Attributes:
        split: training, validation, holdout, lockbox or out_of_scope.
        n_patients: Patients in it; a slide without a patient key counts as a patient.
        n_cells: Labelled cells in it.
    """

    split: str
    n_patients: int
    n_cells: int


@dataclass(frozen=True, slots=True)
class ValidationFacts:
    """Where a candidate comes from.

    Attributes:
        training_run_id: The retraining's id.
        requested_by: Who requested it; shown escaped, like everything that a person typed.
        triggered_by: Login that triggered it in Airflow; None for a scheduled run and a validation by hand.
        reason: Why, in their words.
        base: Base weights: champion or imagenet.
        seed: Seed of the training.
        epochs: Epochs requested; None: as the recipe says.
        dataset_digest: Digest of the data set.
        labels_until: When the newest label of the data set was recorded; None where there is none.
        splits: The splits, in the order in which they are shown.
        left_out: (reason, number of labelled cells) for the cells that are not in the data set.
        n_attempts: Models judged on this hold-out so far, with those of this validation.
        code_version: Version of bloodcell that validated.
        validated_at: When.
    """

    training_run_id: str
    requested_by: str
    triggered_by: str | None
    reason: str
    base: str
    seed: int
    epochs: int | None
    dataset_digest: str
    labels_until: datetime | None
    splits: tuple[SplitFacts, ...]
    left_out: tuple[tuple[str, int], ...]
    n_attempts: int
    code_version: str
    validated_at: datetime


@dataclass(frozen=True, slots=True)
class _ClassRows:
    """The table rows of one cell class: (role, figures) of candidate and champion, and their difference."""

    cell_class: str
    models: list[tuple[str, ClassFigures]]
    difference: ClassDifference | None


def validation_page(comparison: Comparison, gates: Sequence[Gate], facts: ValidationFacts) -> str:
    """Returns the HTML page of a candidate's validation.

    Args:
        comparison: The candidate compared with the champion, or alone.
        gates: The gates of this comparison.
        facts: Where the candidate comes from.
    """
    return render_page(
        Path(__file__).with_name("validation_page.html.j2"),
        comparison=comparison,
        candidate=comparison.candidate,
        champion=comparison.champion,
        classes=_class_rows(comparison),
        gates=gates,
        gate_value=gate_value,
        passed=all_passed(gates),
        facts=facts,
        pictures=_pictures(comparison, gates),
        discordant_cells=discordant_cells(comparison),
        attempts=attempts(facts.n_attempts),
        names=CLASS_NAMES,
        titles=GATE_TITLES,
        split_names=_SPLIT_NAMES,
        min_leucocytes=MIN_LEUCOCYTES,
    )


def _class_rows(comparison: Comparison) -> list[_ClassRows]:
    """Returns the rows of each cell class, in the order of reports."""
    models = [model for model in (comparison.candidate, comparison.champion) if model]
    differences = comparison.difference.classes if comparison.difference else ()
    return [
        _ClassRows(
            cell_class,
            [(model.role, each) for model in models for each in model.classes if each.cell_class == cell_class],
            next((each for each in differences if each.cell_class == cell_class), None),
        )
        for cell_class in REPORT_ORDER
    ]


def _pictures(comparison: Comparison, gates: Sequence[Gate]) -> dict[str, str]:
    """Returns name -> `data:` URI of each plot; none without a hold-out."""
    if comparison.candidate is None:
        return {}
    pictures = {
        "confusion": comparison_plots.confusion_plot(comparison),
        "reliability": comparison_plots.reliability_plot(comparison),
        "novelty": comparison_plots.novelty_plot(comparison),
    }
    if comparison.candidate.agreement.n_slides:
        pictures["agreement"] = comparison_plots.agreement_plot(comparison)
    if comparison.difference:
        threshold = next((gate.threshold for gate in gates if gate.gate == "not_worse_overall"), None)
        pictures["forest"] = comparison_plots.forest_plot(comparison.difference, accuracy_threshold=threshold)
    return {name: f"data:image/png;base64,{base64.b64encode(body).decode()}" for name, body in pictures.items()}
