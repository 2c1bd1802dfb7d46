"""Reads a slide's differential back, with its slide, model and run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.intervals import Proportion, proportion
from bloodcell.cells.names import composed
from bloodcell.differential.counting import Differential, count_differential
from bloodcell.errors import UnknownRecordError
from bloodcell.presentation.numbers import moment
from bloodcell.registry.registered_models import find_model
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from datetime import date, datetime

    from bloodcell.storage.database import Database

_SQL: Final = load_statements("differential/stored_differential.sql")


@dataclass(frozen=True, slots=True)
class SlideWithdrawal:
    """Why a slide was withdrawn, for whom, and the barcode that its cells have now, if they have one."""

    withdrawn_at: datetime
    reason: str
    requested_by: str
    renamed_to: str | None


@dataclass(frozen=True, slots=True)
class Slide:
    """One smear, as the analyser described it.

    Attributes:
        delivered_as: Barcode under which the cells were delivered, if the slide was renamed.
        withdrawal: None while the slide stands.
        earlier: Withdrawals of other slides that had this barcode, the newest first.
    """

    slide_id: int
    barcode: str
    night: date
    order_id: str | None
    analyser: str | None
    patient_key: str | None
    acquired_at: datetime | None
    delivered_as: str | None = None
    withdrawal: SlideWithdrawal | None = None
    earlier: tuple[SlideWithdrawal, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportingModel:
    """The model whose calls a differential counts."""

    model_id: str
    variant: str
    created_at: datetime
    confidence_threshold: float
    novelty_threshold: float
    dataset_digest: str | None
    code_version: str | None


@dataclass(frozen=True, slots=True)
class SlideDifferential:
    """A slide's differential by one model.

    Attributes:
        slide: The smear.
        model: The model whose calls were counted.
        is_reported: Whether this model's calls are reported for the slide; False for a challenger. Of a withdrawn
            slide nothing is reported, and the model is the one whose calls were reported until then.
        differential: Counts, percentages, intervals and flags as they were written.
        agreement: Calls equal to the analyser's class, among the cells to which both gave one of the eight classes.
        n_waiting: Cells of the slide that arrived after this differential was written and are not counted in it.
        out_of_scope_codes: Analyser codes outside the eight classes (blast, variant lymphocyte, smudge ...) with the
            number of cells, the most frequent first. No model can name these cells: it was never shown one.
        run_id: Run that wrote it.
        code_version: Release of bloodcell that wrote it.
        written_at: When it was written.
    """

    slide: Slide
    model: ReportingModel
    is_reported: bool
    differential: Differential
    agreement: Proportion
    n_waiting: int
    out_of_scope_codes: tuple[tuple[str, int], ...]
    run_id: uuid.UUID
    code_version: str
    written_at: datetime


def read_differential(database: Database, barcode: str, model_id: str | None = None) -> SlideDifferential:
    """Returns the differential of the slide with this barcode; see `differential_of`.

    Args:
        database: Where it is stored.
        barcode: The slide's barcode.
        model_id: Id of the model whose calls are counted, or its first characters; None: the reported model.

    Raises:
        UnknownRecordError: There is no such slide or model, or no differential yet; the message names the next step.
    """
    return database.transact(lambda c: differential_of(c, find_slide(c, barcode), model_id), patience_s=0)


def differential_of(connection: sa.Connection, slide: Slide, model_id: str | None) -> SlideDifferential:
    """Returns the differential of a slide.

    Args:
        connection: Where to read.
        slide: The smear.
        model_id: Id of a model, or its first characters; None: the model whose calls are reported.

    Raises:
        UnknownRecordError: There is no such model, or no differential yet; the message names the next step.
    """
    reported = _reported_model(connection, slide)
    model = reported if model_id is None else find_model(connection, model_id).model_id
    row = _report(connection, slide, model) if model else None
    if model is None or row is None:
        raise UnknownRecordError(_why_missing(connection, slide, model))
    return _assembled(connection, slide, row, is_reported=model == reported and slide.withdrawal is None)


def find_slide(connection: sa.Connection, barcode: str) -> Slide:
    """Returns the slide with this barcode; if it was withdrawn and no other has it, the withdrawn one.

    Raises:
        UnknownRecordError: There is none.
    """
    rows = connection.execute(_SQL["slides"], {"barcode": composed(barcode)}).all()
    if not rows:
        raise UnknownRecordError(
            f"No slide has the barcode {barcode!r}. Barcodes are case-sensitive. Next: bloodcell ingest NIGHT_FOLDER, "
            "if its night has not been ingested."
        )
    first, *others = rows
    facts = [name for name in Slide.__dataclass_fields__ if name not in ("withdrawal", "earlier")]
    return Slide(
        **{name: first._mapping[name] for name in facts},
        withdrawal=_withdrawal(first) if first.withdrawn_at else None,
        earlier=tuple(_withdrawal(row) for row in others),
    )


def _withdrawal(row: sa.Row[Any]) -> SlideWithdrawal:
    return SlideWithdrawal(row.withdrawn_at, row.reason, row.requested_by, row.renamed_to)


def withdrawn_text(slide: Slide) -> str:
    """Returns that the slide was withdrawn, when, for whom, why, and where its cells are; empty while it stands."""
    withdrawal = slide.withdrawal
    if withdrawal is None:
        return ""
    cells = f" Its cells are slide {withdrawal.renamed_to} now." if withdrawal.renamed_to else ""
    return (
        f"Slide {slide.barcode} of night {slide.night} was withdrawn on {moment(withdrawal.withdrawn_at)} for "
        f'{withdrawal.requested_by}: "{withdrawal.reason}".{cells}'
    )


def count_cells(connection: sa.Connection, slide: Slide) -> int:
    """Returns how many cells the slide has now."""
    return int(connection.execute(_SQL["n_cells"], {"slide_id": slide.slide_id}).scalar_one())


def _reported_model(connection: sa.Connection, slide: Slide) -> str | None:
    return connection.execute(_SQL["reported_model"], {"slide_id": slide.slide_id}).scalar_one_or_none()


def _report(connection: sa.Connection, slide: Slide, model_id: str) -> sa.Row[tuple[object, ...]] | None:
    return connection.execute(_SQL["report"], {"slide_id": slide.slide_id, "model_id": model_id}).one_or_none()


def _out_of_scope_codes(connection: sa.Connection, slide: Slide) -> tuple[tuple[str, int], ...]:
    rows = connection.execute(_SQL["out_of_scope_codes"], {"slide_id": slide.slide_id})
    return tuple((code, count) for code, count in rows)


def _why_missing(connection: sa.Connection, slide: Slide, model_id: str | None) -> str:
    n_cells = count_cells(connection, slide)
    if slide.withdrawal is not None:
        by = f"by model {model_id[:12]} " if model_id else ""
        return f"{withdrawn_text(slide)} No differential {by}had been reported for it."
    if n_cells == 0:
        return (
            f"Slide {slide.barcode} of night {slide.night} has no usable cell, so it has no differential. "
            f"`bloodcell report {slide.barcode} --html FILE` lists its files and why each was quarantined."
        )
    by = f"model {model_id[:12]}" if model_id else "a model that is or was champion"
    return (
        f"Slide {slide.barcode} of night {slide.night} has {n_cells:,} cells and no differential by {by} yet. "
        f"Run `bloodcell classify --slide {slide.barcode}`; `bloodcell models list` shows the models."
    )


def _assembled(
    connection: sa.Connection, slide: Slide, row: sa.Row[tuple[object, ...]], *, is_reported: bool
) -> SlideDifferential:
    classes = tables.differential.c
    rows = connection.execute(
        sa.select(classes["class"].label("called_class"), classes.n_cells, classes.flag).where(
            classes.slide_id == slide.slide_id, classes.model_id == row.model_id
        )
    ).all()
    # intervals follow from the counts; flags and sufficiency stay as written, whatever a later release would decide
    counted = count_differential({r.called_class: r.n_cells for r in rows}, min_leucocytes=0)
    flags = {r.called_class: r.flag for r in rows}
    differential = replace(
        counted,
        leucocytes=tuple(replace(line, flag=flags[line.cell_class]) for line in counted.leucocytes),
        nrbc=replace(counted.nrbc, flag=flags["erythroblast"]),
        is_sufficient=row.is_sufficient,
    )
    return SlideDifferential(
        slide=slide,
        model=ReportingModel(
            model_id=row.model_id,
            variant=row.variant,
            created_at=row.created_at,
            confidence_threshold=row.confidence_threshold,
            novelty_threshold=row.novelty_threshold,
            dataset_digest=row.dataset_digest,
            code_version=row.model_code_version,
        ),
        is_reported=is_reported,
        differential=differential,
        agreement=proportion(row.n_agree, row.n_compared),
        n_waiting=0 if slide.withdrawal else row.n_cells_now - row.n_cells,
        out_of_scope_codes=_out_of_scope_codes(connection, slide),
        run_id=row.run_id,
        code_version=row.code_version,
        written_at=row.written_at,
    )
