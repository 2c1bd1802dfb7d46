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

    from bloodcell.evidence_settings import CheckSettings
    from bloodcell.registry.bundle import Bundle

_SQL: Final = load_statements("monitoring/label_agreement.sql")

RECENT_CELLS: Final = 2_000
"""Cells that the classes are judged on: a hundred nights of the default sample, with 20 cells of a class of 1 %."""

MIN_CLASS_CELLS: Final = 10
"""Cells with which a class is judged; with fewer its figure is only for information."""

_NEXT: Final = "Next: look at the cells (query 34), then bloodcell retrain, or bloodcell models rollback --reason R."


@dataclass(frozen=True, slots=True)
class _Rule:
    """When a share raises an alarm.

    Attributes:
        threshold: What the share is compared with.
        setting: The setting that gives it.
        is_most: Whether the share may be at most the threshold, not at least.
        n_required: Cells with which the share is judged.
    """

    threshold: float
    setting: str
    is_most: bool = False
    n_required: int = MIN_CLASS_CELLS

    def passes(self, share: Interval) -> bool:
        return share.lower <= self.threshold if self.is_most else share.upper >= self.threshold

    def verdict(self, share: Interval) -> str:
        if self.passes(share):
            return f"The threshold is {percent(self.threshold)}."
        end, side = ("lower", "above") if self.is_most else ("upper", "below")
        return (
            f"Even the {end} end of the interval is {side} the threshold of {percent(self.threshold)} "
            f"(BLOODCELL_{self.setting.upper()}). {_NEXT}"
        )


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
    in_scope = [cell for cell in new if cell.cell_class is not None]
    out_of_scope = [cell for cell in compared.recent if cell.cell_class is None]
    at_least = _Rule(settings.check_min_agreement, "check_min_agreement", n_required=1)
    called = [cell for cell in in_scope if cell.is_called]
    overall = _judged("agreement", None, called, at_least, "the blind-read cells that it called, since the last check")
    held_back = _Rule(settings.check_min_held_back, "check_min_held_back")
    return (
        replace(overall, reason=overall.reason + left_out),
        *_of_classes(compared.recent, settings),
        _judged("unclassified", None, in_scope, None, "the blind-read cells since the last check"),
        *(
            [_judged("out_of_scope", None, out_of_scope, held_back, "the newest cells labelled out of scope")]
            if out_of_scope
            else []
        ),
    )


def _of_classes(cells: Sequence[ComparedCell], settings: CheckSettings) -> Iterable[Check]:
    agreement = _Rule(settings.check_min_class_agreement, "check_min_class_agreement")
    precision = _Rule(settings.check_min_precision, "check_min_precision")
    unclassified = _Rule(settings.check_max_unclassified, "check_max_unclassified", is_most=True)
    for cell_class in REPORT_ORDER:
        of_class = [cell for cell in cells if cell.cell_class == cell_class]
        if called := [cell for cell in of_class if cell.is_called]:
            what = f"the newest cells labelled {cell_class} that it called"
            yield _judged("agreement", cell_class, called, agreement, what)
        # a cell out of scope that was called is wrong, whatever it was called
        if called_so := [cell for cell in cells if cell.called == cell_class]:
            yield _judged(
                "precision", cell_class, called_so, precision, f"the newest cells that it called {cell_class}"
            )
        if of_class:
            what = f"the newest cells labelled {cell_class}"
            yield _judged("unclassified", cell_class, of_class, unclassified, what)


def _judged(kind: Kind, cell_class: str | None, cells: Sequence[ComparedCell], rule: _Rule | None, what: str) -> Check:
    """Returns a share of cells, judged by its rule where there is one, and enough cells."""
    counts = _agrees if kind in ("agreement", "precision") else _is_unclassified
    share, n = _share(cells, counts), sum(counts(cell) for cell in cells)
    found = "" if share is None else f", {percent_with_interval(share)},"
    verb = {"agreement": "agrees with the labels on", "precision": "is right about"}.get(kind, "leaves unclassified")
    reason = f"The champion {verb} {n:,} of {len(cells):,}{found} of {what}."
    value, lower, upper = (share.value, share.lower, share.upper) if share else (None, None, None)
    threshold, passed = None, True
    if share is not None and rule is not None and len(cells) >= rule.n_required:
        threshold, passed = rule.threshold, rule.passes(share)
        reason = f"{reason} {rule.verdict(share)}"
    elif rule is not None:
        reason = f"{reason} Not judged: {rule.n_required} are needed."
    return Check(kind, cell_class, len(cells), value, lower, upper, threshold, passed, reason)


def _agrees(cell: ComparedCell) -> bool:
    return cell.called == cell.cell_class


def _is_unclassified(cell: ComparedCell) -> bool:
    return not cell.is_called


def _share(cells: Sequence[ComparedCell], counts: Callable[[ComparedCell], bool]) -> Interval | None:
    patients = {patient: row for row, patient in enumerate(sorted({cell.patient for cell in cells}))}
    rows = np.array([patients[cell.patient] for cell in cells], np.int64)
    n, total = (
        np.bincount(each, minlength=len(patients)).astype(np.float64)
        for each in (rows[[counts(cell) for cell in cells]], rows)
    )
    return share_interval(Share(n, total))
