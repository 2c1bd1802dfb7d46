"""The lockbox: blind-read cells of patients who judge nothing else, opened for a candidate about to be promoted.

Of many candidates that one hold-out judges, the luckiest passes. The lockbox has judged none of them, so it shows
whether the candidate is as good as the hold-out says. It is small, and only contradicts: a candidate is refused if it
loses more accuracy than the gates allow, and more than chance explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.evaluation.patient_intervals import paired_interval
from bloodcell.presentation.numbers import counted, percent, points_with_interval
from bloodcell.registry.bundle import images_of
from bloodcell.registry.registered_models import open_registered
from bloodcell.retraining.holdout_cells import holdout_cells
from bloodcell.retraining.judging import compare_on, outputs_of
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from bloodcell.evaluation.comparison_records import Comparison, Role
    from bloodcell.retraining.holdout_cells import HoldoutCells
    from bloodcell.settings import Settings

MIN_CELLS: Final = 200
MIN_PATIENTS: Final = 10
"""Below these numbers a lockbox says of itself that it is small."""

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class LockboxResult:
    """What the lockbox says of a candidate.

    Attributes:
        passed: False if it contradicts the gates.
        reason: The result in a sentence.
    """

    passed: bool
    reason: str


def open_lockbox(
    settings: Settings, model_id: str, *, champion_id: str | None, dataset_digest: str, airflow_run: str | None = None
) -> LockboxResult | None:
    """Opens the lockbox for a candidate, records what it says, and returns it; None if the lockbox is empty.

    A second opening for the same candidate, champion and data set returns the first result, and writes nothing.

    Args:
        settings: Where everything is kept, and how much accuracy may be lost.
        model_id: The candidate.
        champion_id: The champion that it was compared with, None without one.
        dataset_digest: The data set of its validation.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        BundleError: A bundle is missing, incomplete or altered.
        StoreUnavailableError: Images cannot be read.
    """
    database, store = open_database(settings), Store.of(settings)
    key = {"model_id": model_id, "champion_id": champion_id, "dataset_digest": dataset_digest}
    if earlier := database.transact(lambda connection: _earlier(connection, key)):
        return earlier
    bundles = {each: open_registered(store, each) for each in dict.fromkeys(filter(None, (model_id, champion_id)))}
    trained_on = images_of(*bundles.values())
    cells = database.transact(lambda c: holdout_cells(c, dataset_digest, trained_on, split="lockbox"))
    if not cells.images:
        return None
    with recorded_run(database, "lockbox", airflow_run=airflow_run) as run:
        outputs = outputs_of(bundles, cells, store, settings)
        roles: list[tuple[str, Role]] = [(model_id, "candidate")]
        roles += [(champion_id, "champion")] if champion_id else []
        comparison = compare_on(cells, bundles, outputs, roles)
        result = judge_lockbox(comparison, settings.gate_accuracy_margin)
        row = key | _figures(cells, comparison) | {"passed": result.passed, "reason": result.reason}
        insertion = insert(tables.lockbox_opening).values(row | {"run_id": run.run_id}).on_conflict_do_nothing()
        database.transact(lambda c: c.execute(insertion))
        run.n_cells, run.detail = len(cells.images), {"model": model_id, "passed": result.passed}
    # of two openings at once, the one that was recorded counts
    return database.transact(lambda connection: _earlier(connection, key)) or result


def judge_lockbox(comparison: Comparison, margin: float) -> LockboxResult:
    """Returns whether the lockbox contradicts the gates.

    A loss of more than `margin` contradicts if it is likely over patients, or if independent cells would show it: a
    lockbox of one patient says nothing about others, but a candidate that gets it all wrong does not pass.

    Args:
        comparison: The candidate compared with the champion on the lockbox, which is not empty.
        margin: Loss of accuracy that is allowed, in 0..1.
    """
    cells = f"the {comparison.n_cells:,} cells of {counted(comparison.n_patients, 'patient')} in the lockbox"
    difference, candidate = comparison.difference, comparison.candidate
    if difference is None or candidate is None:
        accuracy = "" if candidate is None else f": accuracy {percent(candidate.accuracy.value)}"
        return LockboxResult(True, f"There is no champion to compare with on {cells}{accuracy}.")
    change = difference.accuracy
    _, highest = paired_interval(difference.n_only_candidate, difference.n_only_other, comparison.n_cells)
    passed = not (change.value < -margin - _ROUNDING and (change.likely_to < 0 or highest < 0))
    verdict = "do not contradict the gates" if passed else "contradict the gates"
    small = ""
    if passed and (comparison.n_cells < MIN_CELLS or comparison.n_patients < MIN_PATIENTS):
        small = f" They are too few to contradict a small loss: {MIN_CELLS} of {MIN_PATIENTS} patients would be enough."
    return LockboxResult(
        passed,
        f"{cells[:1].upper()}{cells[1:]} {verdict}: accuracy changes by {points_with_interval(change)} points. "
        f"Refused is a loss of more than {percent(margin)} that chance hardly explains.{small}",
    )


def _earlier(connection: sa.Connection, key: dict[str, str | None]) -> LockboxResult | None:
    table = tables.lockbox_opening
    same = [table.c[name].is_not_distinct_from(value) for name, value in key.items()]
    row = connection.execute(sa.select(table).where(*same).order_by(table.c.opening_id).limit(1)).one_or_none()
    return None if row is None else LockboxResult(row.passed, row.reason)


def _figures(cells: HoldoutCells, comparison: Comparison) -> dict[str, object]:
    candidate, champion, difference = comparison.candidate, comparison.champion, comparison.difference
    change = difference.accuracy if difference else None
    return {
        "n_cells": len(cells.images),
        "n_patients": comparison.n_patients,
        "accuracy": candidate.accuracy.value if candidate else None,
        "champion_accuracy": champion.accuracy.value if champion else None,
        "difference": change.value if change else None,
        "lower": change.lower if change else None,
        "upper": change.upper if change else None,
    }
