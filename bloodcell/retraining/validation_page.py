"""A validation as one HTML page that needs nothing beside itself: what an approver reads, and what is kept.

The page is a function of what it shows: it is stored under its digest, so the same validation done again after a kill
gives the same page, byte for byte.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CLASS_NAMES, REPORT_ORDER
from bloodcell.evaluation.differential_agreement import MIN_LEUCOCYTES
from bloodcell.report.slide_page import page_environment
from bloodcell.retraining import validation_plots, wording
from bloodcell.retraining.gates import GATE_TITLES, passed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jinja2 import Environment

    from bloodcell.evaluation.comparison import Comparison
    from bloodcell.retraining.gates import Gate

_SPLIT_NAMES: Final = {
    "training": "Training",
    "validation": "Validation",
    "holdout": "Hold-out",
    "out_of_scope": "Outside the eight groups",
}


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split of the data set.

    Attributes:
        split: training, validation, holdout or out_of_scope.
        n_patients: Patients (slides where there is no patient key) on it.
        n_cells: Its labelled cells.
    """

    split: str
    n_patients: int
    n_cells: int


@dataclass(frozen=True, slots=True)
class ValidationFacts:
    """Where a candidate comes from; everything a person typed is shown escaped.

    Attributes:
        training_run_id: Of the retraining.
        requested_by: Who asked for it.
        reason: Why, in their words.
        base: What it was trained from: champion, imagenet or random.
        seed: Of the training.
        epochs: Asked for; None: the recipe's.
        dataset_digest: Of the snapshot.
        labels_until: When the newest label of the snapshot was recorded; None where there is none.
        splits: In the order they are to be shown.
        left_out: Why, and how many labelled cells, that are not in the snapshot.
        code_version: Of the bloodcell that judged.
        validated_at: When.
    """

    training_run_id: str
    requested_by: str
    reason: str
    base: str
    seed: int
    epochs: int | None
    dataset_digest: str
    labels_until: datetime | None
    splits: tuple[SplitFacts, ...]
    left_out: tuple[tuple[str, int], ...]
    code_version: str
    validated_at: datetime


def render(comparison: Comparison, gates: Sequence[Gate], facts: ValidationFacts) -> str:
    """Returns the page of a candidate's validation.

    Args:
        comparison: The candidate beside the champion, or alone.
        gates: As judged of this comparison.
        facts: Where the candidate comes from.
    """
    return (
        _environment()
        .get_template("validation_page.html.j2")
        .render(
            comparison=comparison,
            candidate=comparison.candidate,
            champion=comparison.champion,
            pairs=_pairs(comparison),
            gates=gates,
            passed=passed(gates),
            facts=facts,
            pictures=_pictures(comparison, gates),
            mcnemar=wording.mcnemar(comparison),
            names=CLASS_NAMES,
            titles=GATE_TITLES,
            split_names=_SPLIT_NAMES,
            min_leucocytes=MIN_LEUCOCYTES,
        )
    )


def _pairs(comparison: Comparison) -> list[dict[str, object]]:
    """For each class, in the order people see: figures of candidate and champion, and their difference."""
    models = [model for model in (comparison.candidate, comparison.champion) if model]
    differences = comparison.difference.classes if comparison.difference else ()
    return [
        {
            "cell_class": cell_class,
            "models": [
                (model.role, each) for model in models for each in model.classes if each.cell_class == cell_class
            ],
            "difference": next((each for each in differences if each.cell_class == cell_class), None),
        }
        for cell_class in REPORT_ORDER
    ]


def _pictures(comparison: Comparison, gates: Sequence[Gate]) -> dict[str, str]:
    """Name -> `data:` URI of each plot; none without a hold-out."""
    if comparison.candidate is None:
        return {}
    pictures = {
        "confusion": validation_plots.confusion_plot(comparison),
        "reliability": validation_plots.reliability_plot(comparison),
        "novelty": validation_plots.novelty_plot(comparison),
    }
    if comparison.candidate.agreement.n_slides:
        pictures["agreement"] = validation_plots.agreement_plot(comparison)
    if comparison.difference:
        limit = next((gate.limit for gate in gates if gate.gate == "not_worse_overall"), None)
        pictures["forest"] = validation_plots.forest_plot(comparison.difference, accuracy_limit=limit)
    return {name: f"data:image/png;base64,{base64.b64encode(body).decode()}" for name, body in pictures.items()}


def _environment() -> Environment:
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {
        "percent": wording.percent,
        "points": wording.points,
        "share": wording.share,
        "index": wording.index,
        "difference": wording.difference,
        "decimal": lambda value, decimals: wording.NOTHING if value is None else f"{value:.{decimals}f}",
    }
    environment.globals |= {"gate_value": wording.gate_value}
    return environment
