"""Rows of calls: COPY as classify writes them, against INSERT of the same rows."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from benchmarks.speed.growing import sizes, template
from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.place import Place
from bloodcell.cells.calls import decide
from bloodcell.cells.cell_image import CellImage
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.classify.call_rows import ModelCalls, make_partitions, write_calls
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import embedded_psql

CHUNK = 1_024


def calls(place: Place) -> list[Line]:
    n_cells = sizes(place)[1]

    def side(write: Callable[[sa.Connection, uuid.UUID, ModelCalls], None]) -> float:
        database = open_database(place.fresh(template(n_cells)))
        with database.begin() as connection:
            chunks = _chunks(connection)
            run_id = connection.scalars(sa.select(tables.run.c.run_id).limit(1)).one()
            make_partitions(connection, {cell.night for chunk in chunks for cell in chunk.cells})
        started = time.perf_counter()
        for chunk in chunks:
            with database.begin() as connection:
                write(connection, run_id, chunk)
        return time.perf_counter() - started

    rows = _exported(place, n_cells)
    of_copy, of_rows, of_batches, of_psql = alternately(
        1 if place.quick else 3,
        lambda: side(_copied),
        lambda: side(_inserted),
        lambda: side(_inserted_at_once),
        lambda: _copied_by_psql(place, n_cells, rows),
    )
    raw = f"s: {shown(of_copy)}; row by row: {shown(of_rows)}; many rows per statement: {shown(of_batches)}"
    raw_psql = f"rows/s: {n_cells / min(of_copy):,.0f}; psql: {n_cells / min(of_psql):,.0f}"
    what = f"write {n_cells:,} calls with COPY"
    return [
        Line(what, "executemany of INSERT ... ON CONFLICT DO NOTHING", ratio(of_rows, of_copy), raw),
        Line(what, "INSERT of many rows per statement", ratio(of_batches, of_copy), "as above"),
        Line(what, r"psql's \copy of prepared lines, none of which may exist yet", ratio(of_psql, of_copy), raw_psql),
    ]


def _exported(place: Place, n_cells: int) -> Path:
    """Returns a file with all rows, as psql exports them."""
    settings = place.fresh(template(n_cells))
    with open_database(settings).begin() as connection:
        chunks = _chunks(connection)
        run_id = connection.scalars(sa.select(tables.run.c.run_id).limit(1)).one()
        make_partitions(connection, {cell.night for chunk in chunks for cell in chunk.cells})
        write_calls(connection, run_id, chunks, redo=False)
    file = place.folder / "calls.tsv"
    _psql(settings, rf"\copy (TABLE bloodcell.cell_call) TO '{file}'")
    return file


def _copied_by_psql(place: Place, n_cells: int, rows: Path) -> float:
    settings = place.fresh(template(n_cells))
    with open_database(settings).begin() as connection:
        make_partitions(connection, set(connection.scalars(sa.select(tables.cell.c.night).distinct())))
    started = time.perf_counter()
    _psql(settings, rf"\copy bloodcell.cell_call FROM '{rows}'")
    return time.perf_counter() - started


def _psql(settings: Settings, command: str) -> None:
    url = (
        sa.make_url(str(settings.plain_database_url)).set(drivername="postgresql").render_as_string(hide_password=False)
    )
    subprocess.run(
        [str(embedded_psql()), "-q", "-v", "ON_ERROR_STOP=1", "-c", command, url], check=True, capture_output=True
    )


def _chunks(connection: sa.Connection) -> list[ModelCalls]:
    rng = np.random.default_rng(0)
    model_id = connection.scalar(sa.select(tables.model.c.model_id))
    columns = (tables.cell.c.cell_id, tables.cell.c.night, tables.cell.c.sha256)
    cells = [CellImage(*row) for row in connection.execute(sa.select(*columns).order_by(columns[0]))]
    chunks = []
    for start in range(0, len(cells), CHUNK):
        part = tuple(cells[start : start + CHUNK])
        probabilities = rng.dirichlet(np.full(len(CELL_CLASSES), 0.2), len(part)).astype(np.float32)
        novelty = rng.uniform(0, 20, len(part)).astype(np.float32)
        decided = decide(probabilities, novelty, confidence_threshold=0.6, novelty_threshold=18)
        chunks.append(ModelCalls(str(model_id), part, decided, novelty, probabilities))
    return chunks


def _copied(connection: sa.Connection, run_id: uuid.UUID, chunk: ModelCalls) -> None:
    write_calls(connection, run_id, [chunk], redo=False)


def _inserted(connection: sa.Connection, run_id: uuid.UUID, chunk: ModelCalls) -> None:
    connection.execute(insert(tables.cell_call).on_conflict_do_nothing(), _rows(run_id, chunk))


def _inserted_at_once(connection: sa.Connection, run_id: uuid.UUID, chunk: ModelCalls) -> None:
    connection.execute(sa.insert(tables.cell_call), _rows(run_id, chunk))


def _rows(run_id: uuid.UUID, chunk: ModelCalls) -> list[dict[str, object]]:
    return [
        {
            "cell_id": cell.cell_id,
            "model_id": chunk.model_id,
            "night": cell.night,
            "called_class": chunk.calls.called[i],
            "top_class": CELL_CLASSES[chunk.calls.top[i]],
            "unclassified_reason": chunk.calls.reasons[i],
            "confidence": float(chunk.calls.confidence[i]),
            "novelty": float(chunk.novelty[i]),
            **{f"p_{cell_class}": float(p) for cell_class, p in zip(CELL_CLASSES, chunk.probabilities[i], strict=True)},
            "run_id": run_id,
        }
        for i, cell in enumerate(chunk.cells)
    ]
