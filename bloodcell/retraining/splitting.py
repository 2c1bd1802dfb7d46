"""The split of each patient's cells, for good: training, validation, hold-out or lockbox.

A patient is assigned a split when a snapshot first uses their labels. Only a patient with cells in a random sample can
judge models, in the hold-out or in the lockbox, and does so with the blind readings of these cells: labels of chosen
cells would make a worse model look better (measured with cells of the review queue: 2 points worse looked 7.5 points
better). The lockbox is opened only for a candidate that is about to be promoted, because a hold-out that judges many
candidates chooses one by chance.
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

LOCKBOX_SHARE: Final = 0.2
"""Share of the judging patients that are kept in the lockbox."""


def assign_splits(connection: sa.Connection, settings: RetrainingSettings, run_id: uuid.UUID) -> int:
    """Assigns a split to every patient who has a label but no split; returns the number of these patients.

    Args:
        connection: In a transaction; other assignments wait until it ends.
        settings: `holdout_fraction` and `validation_fraction`, shares of all patients with a split.
        run_id: The run that assigns.
    """
    wait_for(connection, "split")
    counts: dict[str, int] = dict(connection.execute(_SQL["counts"]).all())
    new = {row.split_key: bool(row.may_judge) for row in connection.execute(_SQL["unassigned"])}
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
        new: Patient -> whether cells of theirs are in a random sample, read or not.
        counts: Split -> number of patients already in it.
        holdout_fraction: Share of patients wanted in hold-out and lockbox; only patients who may judge get there.
        validation_fraction: Share of patients wanted in validation.

    Returns:
        Patient -> split. It depends on the keys and counts only, never on the order in which patients arrived.
    """
    # the order of digests is as good as random, and the same on every machine
    waiting = sorted(new, key=lambda key: hashlib.sha256(key.encode()).digest())
    n_all = len(waiting) + sum(counts.values())
    may_judge = [key for key in waiting if new[key]]
    n_judging = counts.get("holdout", 0) + counts.get("lockbox", 0)
    judging = may_judge[: _n_to_assign(holdout_fraction, n_all, n_judging, len(may_judge))]
    n_lockbox = _n_to_assign(LOCKBOX_SHARE, n_judging + len(judging), counts.get("lockbox", 0), len(judging))
    splits = dict.fromkeys(judging[:n_lockbox], "lockbox") | dict.fromkeys(judging[n_lockbox:], "holdout")
    others = [key for key in waiting if key not in splits]
    n_validation = _n_to_assign(validation_fraction, n_all, counts.get("validation", 0), len(others))
    splits |= dict.fromkeys(others[:n_validation], "validation")
    return splits | dict.fromkeys(others[n_validation:], "training")


def _n_to_assign(fraction: float, n_all: int, n_assigned: int, n_waiting: int) -> int:
    return min(max(round(fraction * n_all) - n_assigned, 0), n_waiting)
