"""A hold-out and models' predictions for it, drawn at random or spelt out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation.comparison_records import Holdout, Predictions, Role

N = len(CELL_CLASSES)
MIX = (0.02, 0.05, 0.05, 0.1, 0.3, 0.08, 0.35, 0.05)


def drawn_holdout(n_cells: int, n_patients: int, seed: int = 0, *, n_out_of_scope: int = 20) -> Holdout:
    """Returns cells of patients with two slides each; the ids have gaps, like those in a database."""
    random = np.random.default_rng(seed)
    patients = random.integers(0, n_patients, n_cells)
    return Holdout(
        truth=random.choice(N, n_cells, p=MIX),
        patients=7 * patients + 3,
        slides=100 + 2 * patients + random.integers(0, 2, n_cells),
        out_of_scope_patients=7 * (np.arange(n_out_of_scope) % n_patients) + 3,
    )


def drawn_predictions(
    holdout: Holdout, role: Role = "candidate", *, strength: float = 3.0, seed: int = 1
) -> Predictions:
    """Returns predictions that are right more often for a stronger model, and for some patients than for others."""
    random = np.random.default_rng(seed)
    n_cells = len(holdout.truth)
    of_patient = np.random.default_rng(99).normal(0, 0.6, 1 + int(holdout.patients.max(initial=0)))
    scores = random.normal(size=(n_cells, N))
    scores[np.arange(n_cells), holdout.truth] += strength + of_patient[holdout.patients]
    probabilities = np.exp(2.6 * scores) / np.exp(2.6 * scores).sum(axis=1, keepdims=True)
    outside = random.gamma(6, 1.2, len(holdout.out_of_scope_patients))
    return Predictions(
        model_id=f"{role}-{seed}".ljust(64, "0"),
        variant="inception_v3",
        role=role,
        probabilities=probabilities.astype(np.float32),
        unclassified=probabilities.max(axis=1) < 0.5,
        novelty=random.gamma(3, 1, n_cells),
        out_of_scope_unclassified=outside > 6,
        out_of_scope_novelty=outside,
        novelty_threshold=6.0,
    )


def holdout_of(truth: Sequence[int], patients: Sequence[int] | None = None, *, n_out_of_scope: int = 0) -> Holdout:
    """Returns the given cells and cells out of scope; by default each is of a different patient."""
    numbers = np.array(range(len(truth)) if patients is None else patients, np.int64)
    return Holdout(np.array(truth, np.int64), numbers, numbers, np.arange(n_out_of_scope))


def predictions_of(
    top: Sequence[int] | NDArray[np.int64],
    role: Role = "candidate",
    *,
    confidence: float = 1.0,
    unclassified: Sequence[bool] | None = None,
    held_back: Sequence[bool] = (),
) -> Predictions:
    """Returns predictions of the given classes, all with the same confidence."""
    n_cells = len(top)
    probabilities = np.full((n_cells, N), (1 - confidence) / (N - 1))
    probabilities[np.arange(n_cells), np.array(top, int)] = confidence
    return Predictions(
        model_id=role.ljust(64, "0"),
        variant="vgg16",
        role=role,
        probabilities=probabilities,
        unclassified=np.zeros(n_cells, bool) if unclassified is None else np.array(unclassified),
        novelty=np.zeros(n_cells),
        out_of_scope_unclassified=np.array(held_back, bool),
        out_of_scope_novelty=np.zeros(len(held_back)),
    )
