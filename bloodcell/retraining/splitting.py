"""The split of each patient's cells, for good: training, validation or hold-out.

A patient is assigned a split when a snapshot first uses their labels. Patients with blind-read labels are assigned to
the hold-out first, because a person who saw the model's call before labelling is biased towards it.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.storage import tables
from bloodcell.storage.locks import wait_for
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.settings import RetrainingSettings

_SQL: Final = load_statements("retraining/splitting.sql")


def assign_splits(connection: sa.Connection, settings: RetrainingSettings, run_id: uuid.UUID) -> int:
    """Assigns a split to every patient who has a label but no split; returns the number of these patients.

    Args:
        connection: In a transaction; other assignments wait until it ends.
        settings: `holdout_fraction` and `validation_fraction`, shares of all patients with a split.
        run_id: The run that assigns.
    """
    wait_for(connection, "split")
    counts: dict[str, int] = dict(connection.execute(_SQL["counts"]).all())
    new = {row.split_key: bool(row.is_blind) for row in connection.execute(_SQL["unassigned"])}
    splits = splits_of(new, counts, settings.holdout_fraction, settings.validation_fraction)
    if splits:
        connection.execute(
            sa.insert(tables.data_split),
            [{"split_key": k, "split": split, "is_blind": new[k], "run_id": run_id} for k, split in splits.items()],
        )
    return len(splits)


def splits_of(
    new: Mapping[str, bool], counts: Mapping[str, int], holdout_fraction: float, validation_fraction: float
) -> dict[str, str]:
    """Returns the split of each new patient, chosen so that the shares of all patients come close to those wanted.

    Args:
        new: Patient -> whether any of their labels was read blind.
        counts: Split -> number of patients already in it.
        holdout_fraction: Share of patients wanted in the hold-out; patients with blind-read labels come first.
        validation_fraction: Share of patients wanted in validation.

    Returns:
        Patient -> split. It depends on the keys and counts only, never on the order in which patients arrived.
    """
    # the order of digests is as good as random, and the same on every machine
    waiting = sorted(new, key=lambda key: (not new[key], hashlib.sha256(key.encode()).digest()))
    n_all = len(waiting) + sum(counts.values())
    n_holdout = _n_to_assign(holdout_fraction, n_all, counts.get("holdout", 0), len(waiting))
    holdout, waiting = waiting[:n_holdout], waiting[n_holdout:]
    waiting.sort(key=lambda key: hashlib.sha256(key.encode()).digest())
    n_validation = _n_to_assign(validation_fraction, n_all, counts.get("validation", 0), len(waiting))
    splits = dict.fromkeys(holdout, "holdout") | dict.fromkeys(waiting[:n_validation], "validation")
    return splits | dict.fromkeys(waiting[n_validation:], "training")


def _n_to_assign(fraction: float, n_all: int, n_assigned: int, n_waiting: int) -> int:
    return min(max(round(fraction * n_all) - n_assigned, 0), n_waiting)
