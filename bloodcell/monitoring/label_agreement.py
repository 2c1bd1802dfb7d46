"""The champion's calls compared with the labels of the same cells; each cell counts once for each champion.

The table `checked_cell` records which cells were compared. The id of the last label is not enough: labels do not
become visible in the order of their ids, so those of a slow import would be lost for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES, REPORT_ORDER, UNCLASSIFIED
from bloodcell.cells.intervals import Proportion, proportion
from bloodcell.monitoring.check_records import Check, Kind, not_judged
from bloodcell.presentation.numbers import counted, percent, percent_with_interval
from bloodcell.registry.bundle import images_of
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import CheckSettings


_SQL: Final = load_statements("monitoring/label_agreement.sql")


@dataclass(frozen=True, slots=True)
class Tally:
    """Newly labelled cells of one kind.

    Attributes:
        cell_class: The class by their labels; None if out of scope.
        called: What the champion classified them as, a class or "unclassified".
        is_blind: Whether a person labelled them without seeing a call.
        is_training: Whether the champion was trained or validated on these very images.
        n_cells: Number of cells.
    """

    cell_class: str | None
    called: str
    is_blind: bool
    is_training: bool
    n_cells: int


def compare_new_labels(connection: sa.Connection, bundle: Bundle, run_id: UUID, min_cells: int) -> tuple[Tally, ...]:
    """Returns the champion's calls of the cells labelled since the last check, and marks these cells as counted.

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
    return tuple(Tally(*row) for row in connection.execute(_SQL["compare"], values))


def agreement_checks(tallies: Iterable[Tally], settings: CheckSettings) -> tuple[Check, ...]:
    """Returns the figures of agreement; overall and blind-read agreement are judged, the rest is information.

    An agreement is judged by the upper end of its 95 % interval: an alarm means that the true agreement is below the
    threshold, not that a few cells were wrong by chance. People tend to confirm what a machine proposes, so cells that
    were read blind are judged on their own as well.
    """
    known = [tally for tally in tallies if not tally.is_training]
    n_left_out = sum(tally.n_cells for tally in tallies) - sum(tally.n_cells for tally in known)
    in_scope = [tally for tally in known if tally.cell_class is not None]
    n_called = sum(tally.n_cells for tally in in_scope if tally.called != UNCLASSIFIED)
    left_out = f" Left out: {counted(n_left_out, 'cell')} from the champion's training data." if n_left_out else ""
    if n_called < settings.check_min_cells:
        reason = (
            f"Not judged: {n_called:,} newly labelled cells with a call, {settings.check_min_cells:,} are needed "
            f"(BLOODCELL_CHECK_MIN_CELLS); they count at the next check.{left_out}"
        )
        return (not_judged("agreement", n_called, reason, threshold=settings.check_min_agreement),)
    return (
        _judged("agreement", "newly labelled cells", in_scope, settings, left_out),
        *_by_class(in_scope),
        *_blind([tally for tally in in_scope if tally.is_blind], settings),
        _share("unclassified", in_scope, "of the newly labelled cells were left unclassified."),
        *_out_of_scope([tally for tally in known if tally.cell_class is None]),
    )


def _blind(tallies: list[Tally], settings: CheckSettings) -> tuple[Check, ...]:
    n_called = sum(tally.n_cells for tally in tallies if tally.called != UNCLASSIFIED)
    if n_called < settings.check_min_cells:
        reason = f"Not judged: {n_called:,} cells read blind, {settings.check_min_cells:,} are needed."
        return (not_judged("blind_agreement", n_called, reason, threshold=settings.check_min_agreement),)
    return (_judged("blind_agreement", "newly labelled cells read blind", tallies, settings, ""),)


def _judged(kind: Kind, what: str, tallies: list[Tally], settings: CheckSettings, left_out: str) -> Check:
    share = _agreeing(tallies)
    threshold = settings.check_min_agreement
    passed = share.upper is not None and share.upper >= threshold
    verdict = (
        f"The threshold is {percent(threshold)}."
        if passed
        else f"Even the upper end of the interval is below the threshold of {percent(threshold)} "
        "(BLOODCELL_CHECK_MIN_AGREEMENT). Next: look at the cells (query 34), then bloodcell retrain, or bloodcell "
        "models rollback --reason R."
    )
    reason = (
        f"The champion agrees with the labels on {_in_words(share)} of the {what} that it called. {verdict}{left_out}"
    )
    return _check(kind, share, reason, threshold=threshold, passed=passed)


def _by_class(tallies: list[Tally]) -> list[Check]:
    rows = []
    for cell_class in REPORT_ORDER:
        share = _agreeing([tally for tally in tallies if tally.cell_class == cell_class])
        if share.total:
            reason = (
                f"It agrees with the labels on {_in_words(share)} of the cells labelled {cell_class} that it called."
            )
            rows.append(_check("agreement", share, reason, cell_class=cell_class))
    return rows


def _out_of_scope(tallies: list[Tally]) -> list[Check]:
    return (
        [_share("out_of_scope", tallies, "of the cells labelled out of scope were left unclassified.")]
        if tallies
        else []
    )


def _share(kind: Kind, tallies: list[Tally], what: str) -> Check:
    share = _counted(tallies, lambda tally: tally.called == UNCLASSIFIED)
    return _check(kind, share, f"{_in_words(share)} {what}")


def _check(
    kind: Kind,
    share: Proportion,
    reason: str,
    *,
    cell_class: str | None = None,
    threshold: float | None = None,
    passed: bool = True,
) -> Check:
    return Check(kind, cell_class, share.total, share.value, share.lower, share.upper, threshold, passed, reason)


def _agreeing(tallies: list[Tally]) -> Proportion:
    return _counted(
        [tally for tally in tallies if tally.called in CELL_CLASSES], lambda tally: tally.called == tally.cell_class
    )


def _counted(tallies: list[Tally], counts: Callable[[Tally], bool]) -> Proportion:
    return proportion(sum(t.n_cells for t in tallies if counts(t)), sum(t.n_cells for t in tallies))


def _in_words(share: Proportion) -> str:
    found = "" if share.value is None else f", {percent_with_interval(share)},"
    return f"{share.n:,} of {share.total:,}{found}"
