"""The champion's calls compared with blind readings of the random samples; a cell counts once for each champion.

The table `checked_cell` records which cells were compared. The id of the last label is not enough: labels do not
become visible in the order of their ids, so those of a slow import would be lost for good.

Agreement of all cells is judged on those compared since the last check. A class is judged on the newest cells that were
compared with this champion, because a night's sample has few cells of a rare class: without that, a champion that calls
no immature granulocyte correctly would raise no alarm. Intervals are over patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import sqlalchemy as sa

from bloodcell.cells.classes import REPORT_ORDER, UNCLASSIFIED
from bloodcell.cells.metrics import Share
from bloodcell.evaluation.patient_intervals import Interval, share_interval
from bloodcell.monitoring.check_records import Check, Kind, not_judged
from bloodcell.presentation.numbers import counted, percent, percent_with_interval
from bloodcell.registry.bundle import images_of
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import CheckSettings

_SQL: Final = load_statements("monitoring/label_agreement.sql")

RECENT_CELLS: Final = 2_000
"""Cells that the classes are judged on: a hundred nights of the default sample, with 20 cells of a class of 1 %."""

MIN_CLASS_CELLS: Final = 10
"""Cells with which a class is judged; with fewer its figure is only for information."""

_NEXT: Final = "Next: look at the cells (query 34), then bloodcell retrain, or bloodcell models rollback --reason R."


@dataclass(frozen=True, slots=True)
class ComparedCell:
    """A blind-read cell of a random sample, and the champion's call.

    Attributes:
        cell_class: The class by its labels; None if out of scope.
        called: What the champion classified it as, a class or "unclassified".
        patient: The patient, or the slide where no patient is known.
        is_new: Whether it is compared by this check for the first time.
    """

    cell_class: str | None
    called: str
    patient: str
    is_new: bool

    @property
    def is_called(self) -> bool:
        return self.called != UNCLASSIFIED


@dataclass(frozen=True, slots=True)
class Compared:
    """What a check compares.

    Attributes:
        n_new: New cells in scope that the champion called; too few are not recorded, and count at the next check.
        n_training: New cells from the champion's training images, which do not count.
        recent: The newest compared cells, at most `RECENT_CELLS`.
    """

    n_new: int
    n_training: int
    recent: tuple[ComparedCell, ...]


def compare_new_labels(connection: sa.Connection, bundle: Bundle, run_id: UUID, min_cells: int) -> Compared:
    """Compares the champion's calls with the blind readings since the last check, and marks these cells as counted.

    Contested cells wait until they are settled. Fewer than `min_cells` called cells are not marked, and count again at
    the next check.

    Args:
        connection: An open transaction; nothing else may check the same model meanwhile.
        bundle: The champion's bundle.
        run_id: The run that checks.
        min_cells: Called cells in scope that a judgement needs.
    """
    dataset = bundle.manifest.data.dataset_digest
    # the database knows the images of a model trained on its labels; those of any other model are listed in its bundle
    is_known = connection.scalar(sa.select(sa.exists().where(tables.dataset.c.dataset_digest == dataset)))
    images = [] if is_known else sorted(images_of(bundle))
    values = {"model": bundle.model_id, "run_id": run_id, "dataset": dataset, "images": images, "min_cells": min_cells}
    fresh = connection.execute(_SQL["compare"], values).one()
    recent = connection.execute(_SQL["recent"], {"model": bundle.model_id, "run_id": run_id, "n": RECENT_CELLS})
    return Compared(fresh.n_called, fresh.n_training, tuple(ComparedCell(*row) for row in recent))


def agreement_checks(compared: Compared, settings: CheckSettings) -> tuple[Check, ...]:
    """Returns the figures of agreement, those of all cells first, then those of each class and of cells out of scope.

    A figure raises an alarm only if its whole 95 % interval over patients is beyond the threshold: not if a few cells
    were wrong by chance, or the cells of one patient.
    """
    left_out = ""
    if compared.n_training:
        left_out = f" Left out: {counted(compared.n_training, 'cell')} from the champion's training data."
    if compared.n_new < settings.check_min_cells:
        reason = (
            f"Not judged: {compared.n_new:,} blind-read cells of the random samples with a call, "
            f"{settings.check_min_cells:,} are needed (BLOODCELL_CHECK_MIN_CELLS); they count at the next check. Next: "
            f"bloodcell labels sample.{left_out}"
        )
        return (not_judged("agreement", compared.n_new, reason, threshold=settings.check_min_agreement),)
    new = [cell for cell in compared.recent if cell.is_new]
    in_scope = [cell for cell in compared.recent if cell.cell_class is not None]
    out_of_scope = [cell for cell in compared.recent if cell.cell_class is None]
    overall = _judged(
        "agreement",
        None,
        [cell for cell in new if cell.cell_class is not None and cell.is_called],
        _agrees,
        settings.check_min_agreement,
        "the blind-read cells that it called, since the last check",
        n_required=1,
    )
    return (
        replace(overall, reason=overall.reason + left_out),
        *_of_classes(in_scope, compared.recent, settings),
        _judged(
            "unclassified",
            None,
            [cell for cell in new if cell.cell_class is not None],
            lambda cell: not cell.is_called,
            None,
            "the blind-read cells since the last check",
        ),
        *(
            [
                _judged(
                    "out_of_scope",
                    None,
                    out_of_scope,
                    lambda cell: not cell.is_called,
                    settings.check_min_held_back,
                    "the newest cells labelled out of scope",
                )
            ]
            if out_of_scope
            else []
        ),
    )


def _of_classes(
    in_scope: Sequence[ComparedCell], every: Sequence[ComparedCell], settings: CheckSettings
) -> Iterable[Check]:
    for cell_class in REPORT_ORDER:
        of_class = [cell for cell in in_scope if cell.cell_class == cell_class]
        called_so = [cell for cell in every if cell.called == cell_class]
        newest = f"the newest cells labelled {cell_class}"
        threshold = settings.check_min_class_agreement
        if called := [cell for cell in of_class if cell.is_called]:
            yield _judged("agreement", cell_class, called, _agrees, threshold, f"{newest} that it called")
        if called_so:
            # a cell out of scope that was called is wrong, whatever it was called
            what = f"the newest cells that it called {cell_class}"
            yield _judged("precision", cell_class, called_so, _agrees, settings.check_min_precision, what)
        if of_class:
            yield _judged(
                "unclassified",
                cell_class,
                of_class,
                lambda cell: not cell.is_called,
                settings.check_max_unclassified,
                newest,
                may_be_at_most=True,
            )


def _agrees(cell: ComparedCell) -> bool:
    return cell.called == cell.cell_class


def _judged(
    kind: Kind,
    cell_class: str | None,
    cells: Sequence[ComparedCell],
    counts: Callable[[ComparedCell], bool],
    threshold: float | None,
    what: str,
    *,
    n_required: int = MIN_CLASS_CELLS,
    may_be_at_most: bool = False,
) -> Check:
    """Returns a share of cells, judged by its threshold where there are enough cells."""
    share, n = _share(cells, counts), sum(counts(cell) for cell in cells)
    found = "" if share is None else f", {percent_with_interval(share)},"
    verb = {"agreement": "agrees with", "precision": "is right about"}.get(kind, "leaves unclassified")
    reason = f"The champion {verb} {n:,} of {len(cells):,}{found} of {what}."
    if share is None or threshold is None:
        return _check(kind, cell_class, len(cells), share, None, reason)
    if len(cells) < n_required:
        return _check(kind, cell_class, len(cells), share, None, f"{reason} Not judged: {n_required} are needed.")
    passed = share.lower <= threshold if may_be_at_most else share.upper >= threshold
    end, side = ("lower", "above") if may_be_at_most else ("upper", "below")
    verdict = (
        f"The threshold is {percent(threshold)}."
        if passed
        else f"Even the {end} end of the interval is {side} the threshold of {percent(threshold)}. {_NEXT}"
    )
    return _check(kind, cell_class, len(cells), share, threshold, f"{reason} {verdict}", passed=passed)


def _share(cells: Sequence[ComparedCell], counts: Callable[[ComparedCell], bool]) -> Interval | None:
    patients = {patient: row for row, patient in enumerate(sorted({cell.patient for cell in cells}))}
    rows = np.array([patients[cell.patient] for cell in cells], np.int64)
    n, total = (
        np.bincount(each, minlength=len(patients)).astype(np.float64)
        for each in (rows[[counts(cell) for cell in cells]], rows)
    )
    return share_interval(Share(n, total))


def _check(
    kind: Kind,
    cell_class: str | None,
    n_cells: int,
    share: Interval | None,
    threshold: float | None,
    reason: str,
    *,
    passed: bool = True,
) -> Check:
    value, lower, upper = (share.value, share.lower, share.upper) if share else (None, None, None)
    return Check(kind, cell_class, n_cells, value, lower, upper, threshold, passed, reason)
