"""Simulated hold-outs: cells of patients, and the predictions of two models whose true difference is known.

Each cell has its own probability of being called wrongly, which is also what the model's confidence says, so that the
models are calibrated. Patients differ (some slides are stained badly), and the two models err on many of the same
cells, as real models do.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy.special import ndtr

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation.comparison_records import Holdout, Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.evaluation.comparison_records import Role

Scenario = Literal[
    "equal", "1 point worse", "2 points worse", "ig 10 points worse", "every ig unclassified", "nothing held back"
]
SCENARIOS: Final[tuple[Scenario, ...]] = (
    "equal",
    "1 point worse",
    "ig 10 points worse",
    "every ig unclassified",
    "nothing held back",
)

CELLS_PER_PATIENT: Final = 60
OUT_OF_SCOPE_PER_PATIENT: Final = 2

MIX: Final = {
    "neutrophil": 0.475,
    "lymphocyte": 0.24,
    "monocyte": 0.08,
    "eosinophil": 0.05,
    "ig": 0.045,
    "basophil": 0.03,
    "erythroblast": 0.04,
    "platelet": 0.04,
}
"""Class mix of the cells, with more of the rare classes than healthy adults have, as in smears that people look at."""

_ERRORS: Final = {
    "neutrophil": 0.015,
    "lymphocyte": 0.015,
    "monocyte": 0.04,
    "eosinophil": 0.01,
    "ig": 0.06,
    "basophil": 0.03,
    "erythroblast": 0.02,
    "platelet": 0.005,
}
"""Share called wrongly: about the shipped models' on images of their own laboratory (bloodcell/shipped/README.md)."""

_MISTAKEN_FOR: Final = {
    "neutrophil": "ig",
    "lymphocyte": "monocyte",
    "monocyte": "ig",
    "eosinophil": "neutrophil",
    "ig": "neutrophil",
    "basophil": "ig",
    "erythroblast": "lymphocyte",
    "platelet": "lymphocyte",
}
_COMMON_ERRORS: Final = 0.8
"""Correlation of the two models' errors; 8 of 10 cells that one calls wrongly the other calls wrongly, too."""

_CONCENTRATION: Final = 20.0
"""Of the Dirichlet distribution of the patients' mixes; its standard deviation for 4.5 % is then 4.5 points."""

_IG: Final = CELL_CLASSES.index("ig")
_HELD_BACK: Final = 0.7


@dataclass(frozen=True, slots=True)
class Simulated:
    """A hold-out, with the predictions of a champion and of a candidate."""

    holdout: Holdout
    champion: Predictions
    candidate: Predictions


def simulate(scenario: Scenario, n_patients: int, seed: int, *, patient_effect: float = 0.5) -> Simulated:
    """Returns a simulated hold-out.

    Args:
        scenario: How the candidate differs from the champion.
        n_patients: Patients, each with `CELLS_PER_PATIENT` cells.
        seed: The same seed gives the same cells.
        patient_effect: Standard deviation of the logarithm of the factor by which a patient's cells are harder.
    """
    random = np.random.default_rng(seed)
    n_cells = n_patients * CELLS_PER_PATIENT
    patients = np.repeat(np.arange(n_patients), CELLS_PER_PATIENT)
    share = np.array([MIX[each] for each in CELL_CLASSES])
    # patients differ in their class mix: half of the immature granulocytes are those of a few patients
    mixes = random.dirichlet(_CONCENTRATION * share / share.sum(), n_patients)
    truth = np.concatenate([random.choice(len(CELL_CLASSES), CELLS_PER_PATIENT, p=mix) for mix in mixes])
    truth = truth.astype(np.int64)
    harder = np.exp(random.normal(-(patient_effect**2) / 2, patient_effect, n_patients))[patients]
    mean = np.array([_ERRORS[each] for each in CELL_CLASSES])[truth] * harder
    # most cells are easy and a few hard: an exponential distribution around the mean of class and patient
    wrong = np.minimum(random.exponential(mean), 0.45)
    difficulty = random.normal(size=n_cells)
    candidate_wrong = wrong + {"1 point worse": 0.01, "2 points worse": 0.02}.get(scenario, 0.0)
    if scenario == "ig 10 points worse":
        candidate_wrong = np.where(truth == _IG, wrong + 0.10, wrong)
    n_out_of_scope = n_patients * OUT_OF_SCOPE_PER_PATIENT
    return Simulated(
        _holdout(truth, patients, np.repeat(np.arange(n_patients), OUT_OF_SCOPE_PER_PATIENT)),
        _predictions(random, "champion", truth, wrong, difficulty, n_out_of_scope, "equal"),
        _predictions(random, "candidate", truth, candidate_wrong, difficulty, n_out_of_scope, scenario),
    )


def _holdout(
    truth: NDArray[np.int64], patients: NDArray[np.int64], out_of_scope_patients: NDArray[np.int64]
) -> Holdout:
    values = {
        "truth": truth, "patients": patients, "slides": patients, "out_of_scope_patients": out_of_scope_patients
    }  # fmt: skip
    # a release before 0.3 does not ask whose the cells out of scope are
    return Holdout(**{field.name: values[field.name] for field in fields(Holdout)})


def _predictions(
    random: np.random.Generator,
    role: Role,
    truth: NDArray[np.int64],
    wrong: NDArray[np.float64],
    difficulty: NDArray[np.float64],
    n_out_of_scope: int,
    scenario: Scenario,
) -> Predictions:
    n_cells, n_classes = len(truth), len(CELL_CLASSES)
    own = random.normal(size=n_cells)
    latent = np.sqrt(_COMMON_ERRORS) * difficulty + np.sqrt(1 - _COMMON_ERRORS) * own
    is_wrong = ndtr(latent) < wrong
    other = np.array([CELL_CLASSES.index(_MISTAKEN_FOR[each]) for each in CELL_CLASSES])[truth]
    top = np.where(is_wrong, other, truth)
    probabilities = np.zeros((n_cells, n_classes))
    probabilities[np.arange(n_cells), np.where(is_wrong, truth, other)] = wrong
    probabilities[np.arange(n_cells), top] = 1 - wrong
    # a third of the wrong calls and 3 % of the right ones are below a threshold
    unclassified = random.random(n_cells) < np.where(is_wrong, 0.33, 0.03)
    if scenario == "every ig unclassified":
        unclassified |= truth == _IG
    held_back = random.random(n_out_of_scope) < (0.0 if scenario == "nothing held back" else _HELD_BACK)
    return Predictions(
        model_id=role,
        variant="inception_v3",
        role=role,
        probabilities=probabilities,
        unclassified=unclassified,
        novelty=random.random(n_cells),
        out_of_scope_unclassified=held_back,
        out_of_scope_novelty=random.random(n_out_of_scope) + 0.5,
    )
