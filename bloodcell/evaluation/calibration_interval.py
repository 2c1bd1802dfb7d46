"""How far confidence is from accuracy, without the part that chance adds, with an interval over patients.

The expected calibration error of few cells is large even if confidence is perfect: a perfectly calibrated model was
refused by its threshold 60 % of the time at 80 cells. Here the mean squared gap is judged, minus what it would be by
chance.

Source: Bröcker, Estimating reliability and resolution of probability forecasts through decomposition of the empirical
score, Climate Dynamics 39 (2012) 655-667 (the bias); Kumar, Liang and Ma, Verified uncertainty calibration, NeurIPS
2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bloodcell.evaluation.call_evaluation import N_BINS, bin_of
from bloodcell.evaluation.patient_intervals import Interval, counts_by_patient, effective_patients, figure_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


def calibration_interval(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], row: NDArray[np.int64]
) -> Interval:
    """Returns the root mean squared gap between confidence and accuracy, beyond chance, with its 95 % interval.

    Args:
        confidence: float (n,), of the most probable class; n at least 1.
        right: bool (n,), whether that class is the true one.
        row: int64 (n,), each cell's patient, in 0..n_patients - 1.
    """
    n_patients, index = int(row.max()) + 1, bin_of(confidence)
    n_cells = counts_by_patient(row, n_patients, index, N_BINS)
    n_right = counts_by_patient(row[right], n_patients, index[right], N_BINS)
    sums = np.zeros((n_patients, N_BINS))
    np.add.at(sums, (row, index), confidence.astype(np.float64))
    everything = (n_cells.sum(axis=0), n_right.sum(axis=0), sums.sum(axis=0))
    whole = float(_squared(*(each[None] for each in everything))[0])
    left_out = _squared(*(each - part for each, part in zip(everything, (n_cells, n_right, sums), strict=True)))
    found = figure_interval(whole, left_out, n_effective=effective_patients(n_cells.sum(axis=1)), lowest=0.0)
    value, lower, upper = (float(np.sqrt(max(part, 0.0))) for part in (found.value, found.lower, found.upper))
    return Interval(value, lower, upper)


def _squared(
    n_cells: NDArray[np.float64], n_right: NDArray[np.float64], sums: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns float64 (k,): the mean squared gap of each row, minus its mean if each bin's confidence were right."""
    occupied = np.maximum(n_cells, 1)
    confidence = sums / occupied
    gap = (confidence - n_right / occupied) ** 2 - confidence * (1 - confidence) / occupied
    total = n_cells.sum(axis=1)
    squared = np.full(len(n_cells), np.nan)
    np.divide((n_cells * gap).sum(axis=1), total, out=squared, where=total > 0)
    return squared
