"""Reads everything that a slide's report shows, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES, REPORT_ORDER, UNCLASSIFIED
from bloodcell.differential.stored_differential import Slide, SlideDifferential, differential_of, find_slide
from bloodcell.storage import tables

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable
    from datetime import date, datetime

    from bloodcell.storage.database import Database


@dataclass(frozen=True, slots=True)
class CalledCell:
    """One cell as the model called it.

    Attributes:
        file_name: Name within the slide's folder.
        sha256: Digest of its image.
        analyser_code: The analyser's pre-classification, None where it gave none.
        analyser_class: The class of that code, None for a code out of scope.
        called_class: One of the eight classes, or "unclassified".
        unclassified_reason: "novel" or "low_confidence", None where a class was called.
        confidence: Probability of the first choice.
        novelty: Distance from the training cells, on the model's scale.
        choices: The two most probable classes with their probabilities.
    """

    file_name: str
    sha256: str
    analyser_code: str | None
    analyser_class: str | None
    called_class: str
    unclassified_reason: str | None
    confidence: float
    novelty: float
    choices: tuple[tuple[str, float], tuple[str, float]]

    @property
    def is_out_of_scope(self) -> bool:
        """Whether the analyser's code is outside the eight classes: a blast, a smudge, a variant lymphocyte."""
        return self.analyser_code is not None and self.analyser_class is None

    @property
    def disagrees(self) -> bool:
        """Whether the model and the analyser gave the cell different classes."""
        return self.called_class != UNCLASSIFIED and self.analyser_class not in (None, self.called_class)


@dataclass(frozen=True, slots=True)
class CellsOfClass:
    """Cells of one called class, the least certain first."""

    called_class: str
    cells: tuple[CalledCell, ...]


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A quarantined file of the slide."""

    night: date
    path: str
    reason: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class StageRun:
    """One run of a stage that contributed to the report."""

    run_id: uuid.UUID
    stage: str
    started_at: datetime
    host: str
    code_version: str
    airflow_run: str | None


@dataclass(frozen=True, slots=True)
class SlideReport:
    """A slide with its differential, its cells by class, and its origin.

    Attributes:
        slide: The smear.
        differential: None where no file of the slide could be used.
        classes: Unclassified first, then the classes in report order; classes without cells are left out.
        quarantined: Its quarantined files.
        n_duplicates: Its files that repeat the image of another file; the cell is counted once.
        runs: Runs that ingested, classified and counted it, in that order.
    """

    slide: Slide
    differential: SlideDifferential | None
    classes: tuple[CellsOfClass, ...]
    quarantined: tuple[QuarantinedFile, ...]
    n_duplicates: int
    runs: tuple[StageRun, ...]

    @property
    def cells(self) -> Iterable[CalledCell]:
        return (cell for cell_class in self.classes for cell in cell_class.cells)


def read_report(database: Database, barcode: str, model_id: str | None = None) -> SlideReport:
    """Returns the report of the slide with this barcode, by the given model or the reported one.

    Raises:
        UnknownRecordError: There is no such slide or model, or the slide's cells have not been called yet; the message
            names the next step.
    """

    def read(connection: sa.Connection) -> SlideReport:
        # one snapshot: a run in progress must not put cells in the gallery that the differential does not count
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        slide, n_cells = _slide_and_cells(connection, barcode)
        differential = differential_of(connection, slide, model_id) if n_cells else None
        cells = _called_cells(connection, differential) if differential else []
        return SlideReport(
            slide=slide,
            differential=differential,
            classes=_by_class(cells),
            quarantined=_quarantined(connection, barcode),
            n_duplicates=_n_duplicates(connection, barcode),
            runs=_runs(connection, slide, differential),
        )

    return database.transact(read, patience_s=0)


def least_certain_first(cell: CalledCell) -> tuple[bool, bool, float, float]:
    """Sort key: codes out of scope first, then novel cells by falling novelty, then the others by rising confidence."""
    is_novel = cell.unclassified_reason == "novel"
    return (not cell.is_out_of_scope, not is_novel, -cell.novelty if is_novel else cell.confidence, -cell.novelty)


def _slide_and_cells(connection: sa.Connection, barcode: str) -> tuple[Slide, int]:
    slide = find_slide(connection, barcode)
    n_cells = connection.scalar(
        sa.select(sa.func.count()).select_from(tables.cell).where(tables.cell.c.slide_id == slide.slide_id)
    )
    return slide, n_cells or 0


def _called_cells(connection: sa.Connection, differential: SlideDifferential) -> list[CalledCell]:
    cell, call = tables.cell.c, tables.cell_call.c
    rows = connection.execute(
        sa.select(
            cell.file_name,
            cell.sha256,
            cell.analyser_code,
            cell.analyser_class,
            call.called_class,
            call.unclassified_reason,
            call.confidence,
            call.novelty,
            *(call[f"p_{cell_class}"] for cell_class in CELL_CLASSES),
        )
        .join(tables.cell_call, sa.and_(call.cell_id == cell.cell_id, call.night == cell.night))
        .where(cell.slide_id == differential.slide.slide_id, call.model_id == differential.model.model_id)
        .order_by(cell.cell_id)
    )
    return [_called_cell(row) for row in rows]


def _called_cell(row: sa.Row[Any]) -> CalledCell:
    facts = [name for name in CalledCell.__dataclass_fields__ if name != "choices"]
    choices = _choices([row._mapping[f"p_{cell_class}"] for cell_class in CELL_CLASSES])
    return CalledCell(**{name: row._mapping[name] for name in facts}, choices=choices)


def _choices(probabilities: Iterable[float]) -> tuple[tuple[str, float], tuple[str, float]]:
    first, second, *_ = sorted(zip(CELL_CLASSES, probabilities, strict=True), key=lambda choice: -choice[1])
    return first, second


def _by_class(cells: list[CalledCell]) -> tuple[CellsOfClass, ...]:
    classes = (
        CellsOfClass(name, tuple(sorted((c for c in cells if c.called_class == name), key=least_certain_first)))
        for name in (UNCLASSIFIED, *REPORT_ORDER)
    )
    return tuple(cell_class for cell_class in classes if cell_class.cells)


def _quarantined(connection: sa.Connection, barcode: str) -> tuple[QuarantinedFile, ...]:
    file = tables.drop_file.c
    rows = connection.execute(
        sa.select(file.night, file.path, file.reason, file.detail)
        .where(file.barcode == barcode, file.outcome == "quarantined")
        .order_by(file.night, file.path)
    )
    return tuple(QuarantinedFile(*row) for row in rows)


def _n_duplicates(connection: sa.Connection, barcode: str) -> int:
    file = tables.drop_file.c
    return (
        connection.scalar(
            sa.select(sa.func.count())
            .select_from(tables.drop_file)
            .where(file.barcode == barcode, file.outcome == "duplicate")
        )
        or 0
    )


def _runs(connection: sa.Connection, slide: Slide, differential: SlideDifferential | None) -> tuple[StageRun, ...]:
    cell, call, run = tables.cell.c, tables.cell_call.c, tables.run.c
    involved: list[sa.Select[tuple[uuid.UUID]]] = [
        sa.select(tables.slide.c.run_id).where(tables.slide.c.slide_id == slide.slide_id),
        sa.select(cell.run_id).where(cell.slide_id == slide.slide_id),
    ]
    if differential:
        involved.append(
            sa.select(call.run_id)
            .join(tables.cell, sa.and_(call.cell_id == cell.cell_id, call.night == cell.night))
            .where(cell.slide_id == slide.slide_id, call.model_id == differential.model.model_id)
        )
        involved.append(sa.select(sa.literal(differential.run_id)))
    rows = connection.execute(
        sa.select(*(run[name] for name in StageRun.__dataclass_fields__))
        .where(run.run_id.in_(sa.union(*involved)))
        .order_by(run.started_at, run.stage)
    )
    return tuple(StageRun(*row) for row in rows)
