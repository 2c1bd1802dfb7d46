"""Each patient's cells are on one split for good: training, validation or hold-out.

The split is given when a snapshot first uses a patient's labels. Patients with blind-read labels go to the hold-out
first: who saw the machine's proposal before deciding is biased towards it.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.storage import tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.settings import Settings

_LOCK: Final = 0x73_70_6C_69_74  # "split"; one split at a time in a database


def assign_splits(connection: sa.Connection, settings: Settings, run_id: uuid.UUID) -> int:
    """Gives every patient with a label a split, unless they have one; returns how many got one.

    Args:
        connection: In a transaction; other splits wait until it ends.
        settings: `holdout_fraction` and `validation_fraction`, shares of all patients with a split.
        run_id: Run that does it.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    counts: dict[str, int] = dict(
        connection.execute(sa.text("SELECT split, count(*) FROM bloodcell.data_split GROUP BY split")).all()
    )
    found = connection.execute(
        sa.text(
            "SELECT split_key, bool_or(is_blind) AS is_blind FROM bloodcell.current_label WHERE NOT EXISTS "
            "(SELECT 1 FROM bloodcell.data_split d WHERE d.split_key = current_label.split_key) GROUP BY split_key"
        )
    )
    new = {row.split_key: bool(row.is_blind) for row in found}
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
    """Returns the split of each new patient, so that the shares of all patients come as near to those wanted as can be.

    Args:
        new: Patient -> whether any label of theirs was read blind.
        counts: Side -> patients it has already.
        holdout_fraction: Share of patients wanted in the hold-out; blind-read ones first.
        validation_fraction: Likewise for validation.

    Returns:
        Patient -> split. Depends on names and counts only, never on the order in which patients came.
    """
    # a digest's order is as good as drawing lots, and the same on every machine
    waiting = sorted(new, key=lambda key: (not new[key], hashlib.sha256(key.encode()).digest()))
    n_all = len(waiting) + sum(counts.values())
    n_holdout = _wanted(holdout_fraction, n_all, counts.get("holdout", 0), len(waiting))
    holdout, waiting = waiting[:n_holdout], waiting[n_holdout:]
    waiting.sort(key=lambda key: hashlib.sha256(key.encode()).digest())
    n_validation = _wanted(validation_fraction, n_all, counts.get("validation", 0), len(waiting))
    splits = dict.fromkeys(holdout, "holdout") | dict.fromkeys(waiting[:n_validation], "validation")
    return splits | dict.fromkeys(waiting[n_validation:], "training")


def _wanted(fraction: float, n_all: int, n_there: int, n_waiting: int) -> int:
    return min(max(round(fraction * n_all) - n_there, 0), n_waiting)
