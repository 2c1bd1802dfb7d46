"""Counts the differentials of slides in Postgres and adds them as rows, once for each state of a slide."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED
from bloodcell.differential.counting import (
    COUNTED_LEUCOCYTES,
    LINES,
    Differential,
    LineCount,
    SlideCounts,
    SlideFacts,
    count_differentials,
)
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from bloodcell.differential.laboratory_rules import LaboratoryRules

_SQL: Final = load_statements("differential/differential_rows.sql")
_ALWAYS: Final = (*CELL_CLASSES, UNCLASSIFIED)
"""Lines that have a row even without cells."""

_GIVEN: Final = ("run_id", "written_at", "report_id", "number")
"""Columns of a report that say nothing about what was counted."""


@dataclass(frozen=True, slots=True)
class _CountedSlide:
    """One slide as one model called it: the counts, and columns that are stored as they are."""

    slide_id: int
    model_id: str
    counts: SlideCounts
    columns: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one slide and model: one of slide_report, without the columns of `_GIVEN`, and the lines by name."""

    report: dict[str, object]
    lines: dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class WrittenDifferentials:
    """The result of `add_differentials`.

    Attributes:
        slide_ids: Slides with a differential over all their cells by at least one model, new or unchanged.
        n_written: Differentials that are new or have changed.
    """

    slide_ids: frozenset[int]
    n_written: int


def add_differentials(
    connection: sa.Connection, slides: Sequence[int], *, run_id: uuid.UUID, rules: LaboratoryRules
) -> WrittenDifferentials:
    """Adds a differential for each slide, by each model that called all cells of the slide; locks the slides.

    If a model has not called every cell of a slide, no differential is written, because none covers only a part of a
    slide. An earlier one stays, and `read_result` says how many cells it lacks. Nothing is written where nothing
    would differ from the newest differential, unless the slide has been called again since.

    Args:
        connection: Where to write.
        slides: Slide ids in ascending order, or two runs could deadlock; unknown ones, withdrawn ones and slides
            without cells are skipped.
        run_id: The run that the rows refer to.
        rules: The laboratory's rules, which are kept in the database, too.
    """
    # two runs count a slide one after the other, so an older count never follows a newer one
    locked = list(connection.scalars(_SQL["lock_slides"], {"slides": slides}))
    counted = _counted(connection, locked)
    differentials = count_differentials([each.counts for each in counted], rules)
    digest = rules.digest
    found = {
        (each.slide_id, each.model_id): _Rows(_report_row(each, differential, digest), _line_rows(each, differential))
        for each, differential in zip(counted, differentials, strict=True)
    }
    stored = _stored(connection, locked)
    changed = {key: rows for key, rows in found.items() if key not in stored or rows != stored[key][1]}
    if changed:
        keep_rules(connection, rules)
        _add(connection, changed, {key: number for key, (number, _) in stored.items()}, run_id)
    return WrittenDifferentials(frozenset(each.slide_id for each in counted), len(changed))


def _counted(connection: sa.Connection, slides: list[int]) -> list[_CountedSlide]:
    by_slide: dict[tuple[int, str], list[sa.Row[Any]]] = {}
    nights = list(connection.scalars(_SQL["nights_of_slides"], {"slides": slides}))
    for row in connection.execute(_SQL["counted_slides"], {"slides": slides, "nights": nights}):
        by_slide.setdefault((row.slide_id, row.model_id), []).append(row)
    counted = []
    for (slide_id, model), rows in by_slide.items():
        first = rows[0]._mapping
        facts = SlideFacts(**{each.name: first[each.name] for each in fields(SlideFacts)})
        counts = SlideCounts({r.line: LineCount(r.n_cells, r.n_labelled, r.n_unverified) for r in rows}, facts)
        columns = {
            name: first[name]
            for name in ("n_compared", "n_agree", "called_at", "calls_digest", "labels_digest", "n_labels", "n_blasts")
        }
        counted.append(_CountedSlide(slide_id, model, counts, columns))
    return counted


def _stored(connection: sa.Connection, slides: list[int]) -> dict[tuple[int, str], tuple[int, _Rows]]:
    """Returns the newest rows of each slide and model with their number, in the form in which they would be written."""
    reports: dict[int, tuple[int, _Rows]] = {}
    for row in connection.execute(_SQL["newest_reports"], {"slides": slides}):
        values = {name: value for name, value in row._mapping.items() if name not in _GIVEN}
        reports[row.report_id] = (row.number, _Rows(values, {}))
    for row in connection.execute(_SQL["lines_of_reports"], {"reports": list(reports)}):
        values = dict(row._mapping)
        reports[values.pop("report_id")][1].lines[values["class"]] = values
    return {
        (int(str(rows.report["slide_id"])), str(rows.report["model_id"])): (number, rows)
        for number, rows in reports.values()
    }


def keep_rules(connection: sa.Connection, rules: LaboratoryRules) -> None:
    """Keeps the laboratory's rules in the database; keeping them again does no harm.

    Args:
        connection: Where to write.
        rules: The laboratory's rules.
    """
    kept = {"rules_digest": rules.digest, "version": rules.version, "document": json.dumps(rules.document)}
    connection.execute(_SQL["keep_rules"], kept)


def _add(
    connection: sa.Connection,
    changed: Mapping[tuple[int, str], _Rows],
    numbers: Mapping[tuple[int, str], int],
    run_id: uuid.UUID,
) -> None:
    report = tables.slide_report
    reports = [{**rows.report, "number": numbers.get(key, 0) + 1, "run_id": run_id} for key, rows in changed.items()]
    written = connection.execute(
        sa.insert(report).returning(report.c.report_id, report.c.slide_id, report.c.model_id), reports
    )
    ids = {(row.slide_id, row.model_id): row.report_id for row in written}
    lines = [{"report_id": ids[key], **line} for key, rows in changed.items() for line in rows.lines.values()]
    connection.execute(sa.insert(tables.differential), lines)


def _report_row(counted: _CountedSlide, differential: Differential, rules_digest: str) -> dict[str, object]:
    facts = counted.counts.facts
    return {
        "slide_id": counted.slide_id,
        "model_id": counted.model_id,
        "n_cells": differential.n_cells,
        "n_leucocytes": differential.n_leucocytes,
        "n_other_leucocytes": sum(line.share.n for line in differential.other_leucocytes),
        "n_unverified": differential.n_unverified,
        "n_unclassified": differential.unclassified.n,
        "n_contested": differential.n_contested,
        "n_labelled": sum(line.n_labelled for line in counted.counts.lines.values()),
        "is_sufficient": differential.is_sufficient,
        "nrbc_per_100_wbc": differential.nrbc.per_100_wbc,
        "nrbc_lower": differential.nrbc.lower,
        "nrbc_upper": differential.nrbc.upper,
        "age_months": facts.age_months,
        "sex": facts.sex,
        "wbc_received": facts.wbc_10e9_per_l,
        "wbc_is_corrected": facts.wbc_is_corrected,
        "wbc_10e9_per_l": differential.wbc_10e9_per_l,
        "rules_digest": rules_digest,
        **counted.columns,
    }


def _line_rows(counted: _CountedSlide, differential: Differential) -> dict[str, dict[str, object]]:
    shares = {line.cell_class: line for line in (*differential.leucocytes, *differential.other_leucocytes)}
    nothing = LineCount(0)
    rows: dict[str, dict[str, object]] = {}
    for name in LINES:
        cells = counted.counts.lines.get(name, nothing)
        if not cells.n_cells and name not in _ALWAYS:
            continue
        line = shares.get(name) if name in COUNTED_LEUCOCYTES else None
        interval = line.share.percentage_interval if line else None
        bounds = line.percentage_bounds if line else None
        absolute = line.absolute if line else None
        flag = differential.nrbc.flag if name == "erythroblast" else line.flag if line else None
        rows[name] = {
            "class": name,
            "n_cells": cells.n_cells,
            "n_labelled": cells.n_labelled,
            "n_unverified": cells.n_unverified,
            "percentage": line.share.percentage if line else None,
            **dict(zip(("lower", "upper"), interval or (None, None), strict=True)),
            **dict(zip(("bound_lower", "bound_upper"), bounds or (None, None), strict=True)),
            **dict(zip(("absolute", "absolute_lower", "absolute_upper"), absolute or (None,) * 3, strict=True)),
            "flag": flag,
        }
    return rows
