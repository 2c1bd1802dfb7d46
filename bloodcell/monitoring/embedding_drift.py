"""Drift of the embeddings of a model's nights from those of its validation images: maximum mean discrepancy.

An embedding changes with staining, focus, light and camera before calls change, and needs no label.

Source: Gretton, Borgwardt, Rasch, Schölkopf, Smola, A kernel two-sample test, Journal of Machine Learning Research 13
(2012) 723-773 (the unbiased estimate, lemma 6; the median heuristic for the kernel's width, section 8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.monitoring.drift import MIN_CLASS_CELLS, N_REPLICATES, SEED, Drift, drift_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


def embedding_drift(
    reference: NDArray[np.float32],
    reference_top: NDArray[np.int64],
    embedding: NDArray[np.float32],
    top: NDArray[np.int64],
    slide_buckets: NDArray[np.int64],
) -> tuple[Drift | None, dict[str, float]]:
    """Returns the squared discrepancy over all compared classes with its interval, and that of each class.

    Classes are compared one by one, and weighted as they occur among the nights' cells. A class with fewer than
    `MIN_CLASS_CELLS` cells in the reference or in the nights is not compared; None if no class is.

    Args:
        reference: float32 (n, d), of validation images.
        reference_top: int64 (n,), class of each, index into `CELL_CLASSES`.
        embedding: float32 (m, d), of the nights' cells.
        top: int64 (m,), class of each.
        slide_buckets: int64 (m,), slide bucket of each.
    """
    scale = _kernel_scale(reference)
    draws = _draws(slide_buckets)
    total, n_total = np.zeros(len(draws)), np.zeros(len(draws))
    by_class: dict[str, float] = {}
    for index, name in enumerate(CELL_CLASSES):
        known, seen = reference[reference_top == index], top == index
        if len(known) < MIN_CLASS_CELLS or int(seen.sum()) < MIN_CLASS_CELLS:
            continue
        squares = _mmd_squared(known, embedding[seen], draws[:, seen], scale)
        weights = draws[:, seen].sum(axis=1)
        by_class[name] = float(squares[0])
        total += np.where(np.isnan(squares), 0, squares * weights)
        n_total += np.where(np.isnan(squares), 0, weights)
    if not by_class:
        return None, {}
    means = total / np.maximum(n_total, 1)
    return drift_interval(float(means[0]), means[1:]), by_class


def _kernel_scale(reference: NDArray[np.float32]) -> float:
    """Returns 1 / (2 width²), where the width is the median distance between two of the reference's cells.

    The width comes from the reference alone: a width that grew with the drift would hide it.
    """
    squares = _squared_distances(reference, reference)[np.triu_indices(len(reference), 1)]
    return float(1 / max(np.median(squares), 1e-12)) / 2 if len(squares) else 1.0


def _draws(slide_buckets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns float64 (1 + N_REPLICATES, m): how often each cell counts; once in the first row, then as drawn."""
    random = np.random.default_rng(SEED)
    _, bucket_of_cell = np.unique(slide_buckets, return_inverse=True)
    n_buckets = int(bucket_of_cell.max()) + 1
    drawn = random.multinomial(n_buckets, np.full(n_buckets, 1 / n_buckets), size=N_REPLICATES)
    return np.vstack([np.ones(len(slide_buckets)), drawn[:, bucket_of_cell]]).astype(np.float64)


def _mmd_squared(
    known: NDArray[np.float32], seen: NDArray[np.float32], draws: NDArray[np.float64], scale: float
) -> NDArray[np.float64]:
    """Returns the unbiased estimate for every row of draws; nan where a draw has fewer than two cells."""
    within_known = np.exp(-scale * _squared_distances(known, known))
    within_seen = np.exp(-scale * _squared_distances(seen, seen))
    between = np.exp(-scale * _squared_distances(known, seen))
    np.fill_diagonal(within_known, 0)  # a cell is not compared with itself
    np.fill_diagonal(within_seen, 0)
    counts = draws.sum(axis=1)
    n_pairs = counts**2 - (draws**2).sum(axis=1)
    n_known = len(known)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_seen = ((draws @ within_seen) * draws).sum(axis=1) / n_pairs
        of_both = draws @ between.mean(axis=0) / counts
    return np.asarray(within_known.sum() / (n_known * (n_known - 1)) + of_seen - 2 * of_both)


def _squared_distances(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = rows.astype(np.float64), others.astype(np.float64)
    return np.asarray(np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T, 0))
