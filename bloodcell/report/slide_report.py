"""Reads everything that a slide's report shows, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.classes import (
    CELL_CLASSES,
    CONTESTED,
    NOT_LEUCOCYTES,
    OTHER_LEUCOCYTES,
    REPORT_ORDER,
    UNCLASSIFIED,
    UNDECIDED_CODES,
)
from bloodcell.results.stored_result import Slide, SlideResult, count_cells, find_slide, result_of
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable
    from datetime import date, datetime

    from bloodcell.differential.counting import Differential
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("report/slide_report.sql")
_WITHOUT_NAME: Final = (CONTESTED, UNCLASSIFIED, *UNDECIDED_CODES)
_GALLERY: Final = (*OTHER_LEUCOCYTES, *_WITHOUT_NAME, *REPORT_ORDER, *NOT_LEUCOCYTES)


@dataclass(frozen=True, slots=True)
class CalledCell:
    """One cell as the model called it.

    Attributes:
        cell_id: Key of the cell.
        file_name: Name within the slide's folder.
        sha256: Digest of its image.
        analyser_code: The analyser's pre-classification, None where it gave none.
        analyser_class: The class of that code, None for a code out of scope.
        line: What the cell counts as: a class, "unclassified", "contested" or a code out of scope.
        labels: The labels that count, each with the person who gave it; None without one.
        called_class: One of the eight classes, or "unclassified".
        unclassified_reason: "novel" or "low_confidence", None where a class was called.
        resembles: The code out of scope that the cell resembles, where the model knows one.
        confidence: Probability of the first choice.
        novelty: How unlike the training cells it is, on the model's scale.
        has_image: False once the image has been removed because of its age.
        choices: The two most probable classes with their probabilities.
    """

    cell_id: int
    file_name: str
    sha256: str
    analyser_code: str | None
    analyser_class: str | None
    line: str
    labels: str | None
    called_class: str
    unclassified_reason: str | None
    resembles: str | None
    confidence: float
    novelty: float
    has_image: bool
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
    """Cells that count as one line, the least certain first."""

    line: str
    cells: tuple[CalledCell, ...]

    @property
    def n_for_review(self) -> int:
        """Cells without a name, and leucocytes that only the analyser's code names."""
        if self.line in _WITHOUT_NAME:
            return len(self.cells)
        return sum(cell.labels is None for cell in self.cells) if self.line in OTHER_LEUCOCYTES else 0


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
        result: None where no file of the slide could be used.
        classes: Blasts and other leucocytes, then what has no name, the classes in report order, and what is no
            leucocyte; lines without cells are left out.
        quarantined: Its quarantined files.
        n_duplicates: Its files that repeat the image of another file; the cell is counted once.
        runs: Runs that ingested, classified and counted it, in that order.
    """

    slide: Slide
    result: SlideResult | None
    classes: tuple[CellsOfClass, ...]
    quarantined: tuple[QuarantinedFile, ...]
    n_duplicates: int
    runs: tuple[StageRun, ...]

    @property
    def cells(self) -> Iterable[CalledCell]:
        return (cell for cell_class in self.classes for cell in cell_class.cells)

    @property
    def is_as_counted(self) -> bool:
        """Whether the cells count as they did in the result. Labels or calls may be newer than it."""
        if self.result is None or self.slide.withdrawal is not None:  # the cells of a withdrawn slide may be elsewhere
            return True
        return {each.line: len(each.cells) for each in self.classes} == _counted_lines(self.result.differential)


def read_report(
    database: Database, barcode: str, *, model_id: str | None = None, version: int | None = None
) -> SlideReport:
    """Returns the report of a slide: of the version in force, unless an argument asks for another count.

    Args:
        database: The database.
        barcode: The slide.
        model_id: The newest count by this model: its id, or its first characters.
        version: Number of a version.

    Raises:
        UnknownRecordError: There is no such slide, model or version, or the slide's cells have not been called yet; the
            message names the next step.
    """

    def read(connection: sa.Connection) -> SlideReport:
        # one snapshot: a run in progress must not put cells in the gallery that the differential does not count
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        slide = find_slide(connection, barcode)
        # of a slide without cells nothing can be read, unless they were reported before they got another barcode
        has_cells = count_cells(connection, slide) > 0 or slide.withdrawal is not None
        result = result_of(connection, slide, version=version, model_id=model_id) if has_cells else None
        cells = _called_cells(connection, result) if result else []
        return SlideReport(
            slide=slide,
            result=result,
            classes=_by_class(cells),
            quarantined=_quarantined(connection, slide.delivered_as or slide.barcode),
            n_duplicates=connection.execute(
                _SQL["n_duplicates"], {"barcode": slide.delivered_as or slide.barcode}
            ).scalar_one(),
            runs=_runs(connection, slide, result),
        )

    return database.transact(read, patience_s=0)


def least_certain_first(cell: CalledCell) -> tuple[bool, bool, bool, bool, float, float]:
    """Sort key.

    Codes out of scope, cells that resemble one, novel cells by falling novelty, others by rising confidence; labelled
    last.
    """
    is_novel = cell.unclassified_reason == "novel"
    by_doubt = -cell.novelty if is_novel else cell.confidence
    is_plain = cell.resembles is None
    return (cell.labels is not None, not cell.is_out_of_scope, is_plain, not is_novel, by_doubt, -cell.novelty)


def _called_cells(connection: sa.Connection, result: SlideResult) -> list[CalledCell]:
    of_slide = {"slide_id": result.slide.slide_id, "model_id": result.model.model_id}
    return [_called_cell(row) for row in connection.execute(_SQL["called_cells"], of_slide)]


def _called_cell(row: sa.Row[Any]) -> CalledCell:
    facts = [name for name in CalledCell.__dataclass_fields__ if name != "choices"]
    choices = _choices([row._mapping[f"p_{cell_class}"] for cell_class in CELL_CLASSES])
    return CalledCell(**{name: row._mapping[name] for name in facts}, choices=choices)


def _choices(probabilities: Iterable[float]) -> tuple[tuple[str, float], tuple[str, float]]:
    first, second, *_ = sorted(zip(CELL_CLASSES, probabilities, strict=True), key=lambda choice: -choice[1])
    return first, second


def _by_class(cells: list[CalledCell]) -> tuple[CellsOfClass, ...]:
    classes = (
        CellsOfClass(name, tuple(sorted((c for c in cells if c.line == name), key=least_certain_first)))
        for name in _GALLERY
    )
    return tuple(cell_class for cell_class in classes if cell_class.cells)


def _counted_lines(differential: Differential) -> dict[str, int]:
    """Returns line -> cells, of lines with cells."""
    lines = {line.cell_class: line.share.n for line in (*differential.leucocytes, *differential.other_leucocytes)}
    lines |= {"erythroblast": differential.nrbc.n_erythroblasts, "platelet": differential.n_platelets}
    lines |= {**dict(differential.not_leucocytes), **dict(differential.undecided), CONTESTED: differential.n_contested}
    n_undecided = differential.n_contested + sum(n for _, n in differential.undecided)
    lines[UNCLASSIFIED] = differential.unclassified.n - n_undecided
    return {line: n for line, n in lines.items() if n}


def _quarantined(connection: sa.Connection, barcode: str) -> tuple[QuarantinedFile, ...]:
    return tuple(QuarantinedFile(*row) for row in connection.execute(_SQL["quarantined"], {"barcode": barcode}))


def _runs(connection: sa.Connection, slide: Slide, result: SlideResult | None) -> tuple[StageRun, ...]:
    model_id, run_id = (result.model.model_id, result.run_id) if result else (None, None)
    rows = connection.execute(_SQL["runs"], {"slide_id": slide.slide_id, "model_id": model_id, "run_id": run_id})
    return tuple(StageRun(*row) for row in rows)
