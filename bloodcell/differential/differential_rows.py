"""Counts the differentials of slides in Postgres and writes them idempotently."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.cells.classes import REPORT_ORDER, UNCLASSIFIED
from bloodcell.differential.counting import Differential, count_differentials
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping, Sequence

    from bloodcell.settings import DifferentialSettings
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("differential/differential_rows.sql")
_CHUNK_SLIDES: Final = 500
"""Slides in one transaction: 18,000 rows with four models, so that a retry repeats a second or two of work."""

_CLASS_ORDER: Final = (*REPORT_ORDER, UNCLASSIFIED)


@dataclass(frozen=True, slots=True)
class _CalledSlide:
    """Counts of one slide's calls by one model."""

    slide_id: int
    model_id: str
    counts: Mapping[str, int]
    n_compared: int
    n_agree: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one slide and model: one of slide_report, without run and time, and nine of differential."""

    report: dict[str, object]
    classes: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class WrittenDifferentials:
    """The result of `write_differentials`.

    Attributes:
        slide_ids: Slides with a differential over all their cells by at least one model, new or unchanged.
        n_written: Differentials that are new or have changed.
    """

    slide_ids: frozenset[int]
    n_written: int


def write_differentials(
    database: Database,
    *,
    slides: Iterable[int],
    model_id: str | None,
    run_id: uuid.UUID,
    settings: DifferentialSettings,
) -> WrittenDifferentials:
    """Writes a differential for each slide, by each model that called all cells of the slide.

    If a model has not called every cell of a slide, no differential is written, because none covers only a part of a
    slide. An earlier one stays, and `read_differential` says how many cells it lacks. A differential that would not
    change keeps its run and its time, unless the slide has been called again since.

    Args:
        database: Where to write.
        slides: Slide ids; unknown ones, withdrawn ones and slides without cells are skipped.
        model_id: Only the calls of this model; None: the calls of every model.
        run_id: The run that the rows refer to.
        settings: min_leucocytes is used.

    Raises:
        DatabaseUnavailableError: Postgres stayed unavailable. What was written so far is kept; call again.
    """
    complete: set[int] = set()
    n_written = 0
    # sorted, so that two runs over the same slides lock rows in the same order and cannot deadlock
    slide_ids = sorted(set(slides))
    for start in range(0, len(slide_ids), _CHUNK_SLIDES):
        work = partial(
            _write,
            slides=slide_ids[start : start + _CHUNK_SLIDES],
            model_id=model_id,
            run_id=run_id,
            min_leucocytes=settings.min_leucocytes,
        )
        written = database.transact(work)
        complete |= written.slide_ids
        n_written += written.n_written
    return WrittenDifferentials(frozenset(complete), n_written)


def _write(
    connection: sa.Connection, slides: list[int], model_id: str | None, run_id: uuid.UUID, min_leucocytes: int
) -> WrittenDifferentials:
    # two runs count a slide one after the other, so an older count never replaces a newer one
    slides = list(connection.scalars(_SQL["lock_slides"], {"slides": slides}))
    called = _called(connection, slides, model_id)
    differentials = count_differentials([c.counts for c in called], min_leucocytes=min_leucocytes)
    rows = {
        (c.slide_id, c.model_id): _Rows(_report_row(c, d), _class_rows(c, d))
        for c, d in zip(called, differentials, strict=True)
    }
    stored, outdated = _stored(connection, slides), _outdated(connection, slides)
    counted = {
        key
        for key, row in rows.items()
        if key in outdated or key not in stored or row.report["n_cells"] != stored[key].report["n_cells"]
    }
    judged = {key for key, row in rows.items() if row != stored.get(key)} - counted
    _upsert(connection, [rows[key] for key in rows if key in counted], run_id, {"written_at": sa.func.now()})
    # other flags for the same calls do not change which report counts, so the time stays
    _upsert(connection, [rows[key] for key in rows if key in judged], run_id, {})
    return WrittenDifferentials(frozenset(c.slide_id for c in called), len(counted) + len(judged))


def _called(connection: sa.Connection, slides: list[int], model_id: str | None) -> list[_CalledSlide]:
    rows = connection.execute(_SQL["called_slides"], {"slides": slides, "model_id": model_id})
    by_slide: dict[tuple[int, str], list[sa.Row[tuple[object, ...]]]] = {}
    for row in rows:
        by_slide.setdefault((row.slide_id, row.model_id), []).append(row)
    return [
        _CalledSlide(
            slide_id=slide_id,
            model_id=model,
            counts={row.called_class: row.n for row in classes},
            n_compared=sum(row.n_compared for row in classes),
            n_agree=sum(row.n_agree for row in classes),
        )
        for (slide_id, model), classes in by_slide.items()
    ]


def _stored(connection: sa.Connection, slides: list[int]) -> dict[tuple[int, str], _Rows]:
    """Returns the rows written earlier, in the form in which they would be written now."""
    is_one_of_them = sa.any_(sa.cast(slides, sa.ARRAY(sa.BigInteger)))
    report = tables.slide_report.c
    columns = [column for column in report if column.name not in {"run_id", "written_at"}]
    stored = {
        (row.slide_id, row.model_id): _Rows(dict(row._mapping), [])
        for row in connection.execute(sa.select(*columns).where(report.slide_id == is_one_of_them))
    }
    order = sa.func.array_position(sa.cast(_CLASS_ORDER, sa.ARRAY(sa.Text)), tables.differential.c["class"])
    for row in connection.execute(
        sa.select(tables.differential).where(tables.differential.c.slide_id == is_one_of_them).order_by(order)
    ):
        stored[row.slide_id, row.model_id].classes.append(dict(row._mapping))
    return stored


def _outdated(connection: sa.Connection, slides: list[int]) -> set[tuple[int, str]]:
    """Returns the slide and model of the reports that are written again although their counts are the same."""
    found = connection.execute(_SQL["outdated_reports"], {"slides": slides})
    return {(slide_id, model_id) for slide_id, model_id in found}


def _upsert(
    connection: sa.Connection, changed: Sequence[_Rows], run_id: uuid.UUID, stamps: Mapping[str, object]
) -> None:
    """Replaces the report and all nine classes of each slide, so that nothing of an earlier count remains."""
    if not changed:
        return
    reports = [{**row.report, "run_id": run_id} for row in changed]
    classes = [line for row in changed for line in row.classes]
    for table, rows, more in ((tables.slide_report, reports, stamps), (tables.differential, classes, {})):
        statement = insert(table)
        keys = [column.name for column in table.primary_key]
        replaced = {name: statement.excluded[name] for name in rows[0] if name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_={**replaced, **more}), rows)


def _report_row(called: _CalledSlide, differential: Differential) -> dict[str, object]:
    return {
        "slide_id": called.slide_id,
        "model_id": called.model_id,
        "n_cells": differential.n_cells,
        "n_leucocytes": differential.n_leucocytes,
        "n_unclassified": differential.unclassified.n,
        "is_sufficient": differential.is_sufficient,
        "nrbc_per_100_wbc": differential.nrbc.per_100_wbc,
        "nrbc_lower": differential.nrbc.lower,
        "nrbc_upper": differential.nrbc.upper,
        "n_compared": called.n_compared,
        "n_agree": called.n_agree,
    }


def _class_rows(called: _CalledSlide, differential: Differential) -> list[dict[str, object]]:
    key = {"slide_id": called.slide_id, "model_id": called.model_id}
    no_share = {"percentage": None, "lower": None, "upper": None}
    rows = []
    for line in differential.leucocytes:
        lower, upper = line.share.percentage_interval or (None, None)
        share = {"percentage": line.share.percentage, "lower": lower, "upper": upper}
        rows.append({**key, "class": line.cell_class, "n_cells": line.share.n, **share, "flag": line.flag})
    for name, n_cells, flag in (
        ("erythroblast", differential.nrbc.n_erythroblasts, differential.nrbc.flag),
        ("platelet", differential.n_platelets, None),
        (UNCLASSIFIED, differential.unclassified.n, None),
    ):
        rows.append({**key, "class": name, "n_cells": n_cells, **no_share, "flag": flag})
    return rows
