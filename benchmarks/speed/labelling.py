"""A label file becomes labels: one COPY and set-based checks, against INSERTs of the same rows; memory by rows."""

from __future__ import annotations

import csv
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.place import Place, apart, peak_mib
from bloodcell.cells.label_meanings import MEANINGS
from bloodcell.labels import import_labels
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database

NIGHT = "2026-01-02"
LABELLED_CELLS = "labelled_cells"
CELLS_PER_SLIDE = 125


def sizes(place: Place) -> tuple[int, int, int]:
    """Returns the rows of the timed import, and of the small and the large import whose memory is compared."""
    return (2_000, 500, 5_000) if place.quick else (100_000, 10_000, 1_000_000)


def labelling(place: Place) -> list[Line]:
    n_rows, small, large = sizes(place)
    make_cells(place, n_rows)
    file = write_file(place, n_rows, n_rows)

    def side(work: Callable[[Settings, Path], None]) -> float:
        settings = place.fresh(LABELLED_CELLS)
        started = time.perf_counter()
        work(settings, file)
        return time.perf_counter() - started

    of_copy, of_rows, of_batches = alternately(
        1 if place.quick else 3, lambda: side(_imported), lambda: side(_inserted), lambda: side(_inserted_at_once)
    )
    raw = f"s: {shown(of_copy)}; row by row: {shown(of_rows)}; many rows per statement: {shown(of_batches)}"
    what = f"import {n_rows:,} labels from a CSV file, checked, with COPY"
    few, many = (apart(_peak, place, n, n_rows) for n in (small, large))
    return [
        Line(
            what,
            "csv module, executemany of INSERT ... ON CONFLICT DO NOTHING, unchecked",
            ratio(of_rows, of_copy),
            raw,
        ),
        Line(what, "csv module, INSERT of many rows per statement, unchecked", ratio(of_batches, of_copy), "as above"),
        Line(
            f"import labels, peak memory at {large:,} rows",
            f"at {small:,}",
            many[0] / few[0],
            f"MiB: {many[0]:,.0f}; at {small:,}: {few[0]:,.0f}; s: {many[1]:,.1f}; at {small:,}: {few[1]:,.2f}",
            at_most=1.1,
        ),
    ]


def make_cells(place: Place, n_cells: int) -> None:
    """Makes the database that is copied: cells without labels, and images that nobody reads."""
    settings = place.template(LABELLED_CELLS)
    of_run = {"run_id": uuid.uuid4()}
    night = {"night": NIGHT, **of_run}
    n_slides = -(-n_cells // CELLS_PER_SLIDE)
    with connect(str(settings.plain_database_url)).begin() as connection:
        connection.execute(tables.run.insert().values(stage="ingest", code_version="bench", host="bench", **of_run))
        connection.execute(tables.drop.insert().values(folder="bench", **night))
        for statement in (
            "INSERT INTO bloodcell.slide (barcode, night, record_state, run_id) "
            "SELECT 'S' || n, :night, 'absent', :run_id FROM generate_series(0, :n_slides - 1) n",
            "INSERT INTO bloodcell.image (sha256, size_bytes, width_px, height_px, format) "
            "SELECT encode(sha256(n::text::bytea), 'hex'), 1, 1, 1, 'JPEG' FROM generate_series(0, :n_cells - 1) n",
            "INSERT INTO bloodcell.cell (slide_id, file_name, night, sha256, run_id) "
            "SELECT slide_id, 'SNE_' || n || '.jpg', :night, encode(sha256(n::text::bytea), 'hex'), :run_id "
            "FROM generate_series(0, :n_cells - 1) n JOIN bloodcell.slide ON barcode = 'S' || n / :per_slide",
        ):
            counts = {"n_cells": n_cells, "n_slides": n_slides, "per_slide": CELLS_PER_SLIDE}
            connection.execute(sa.text(statement), {**night, **counts})
        connection.execute(sa.text("ANALYZE"))


def write_file(place: Place, n_rows: int, n_cells: int) -> Path:
    """Returns a file of `n_rows` labels; if there are fewer cells, further people label the same cells."""
    file = place.folder / f"labels-{n_rows}.csv"
    with file.open("w") as out:
        out.write("slide,file,label,labelled_by,labelled_at,blind,note\n")
        for n in range(n_rows):
            cell, person = n % n_cells, n // n_cells
            at = f"2026-01-03T09:{n // 60 % 60:02}:{n % 60:02}Z"
            slide = cell // CELLS_PER_SLIDE
            out.write(f"S{slide},SNE_{cell}.jpg,SNE,person {person},{at},0,a few words\n")
    return file


def _imported(settings: Settings, file: Path) -> None:
    done = import_labels(file, settings)
    if done.n_new != done.n_rows:
        raise ValueError(f"Expected that all rows are new. Received: {done}.")


def _inserted(settings: Settings, file: Path) -> None:
    with open_database(settings).begin() as connection:
        connection.execute(insert(tables.label).on_conflict_do_nothing(), _rows(connection, file))


def _inserted_at_once(settings: Settings, file: Path) -> None:
    with open_database(settings).begin() as connection:
        connection.execute(sa.insert(tables.label), _rows(connection, file))


def _rows(connection: sa.Connection, file: Path) -> list[dict[str, Any]]:
    asked = sa.select(tables.slide.c.barcode, tables.cell.c.file_name, tables.cell.c.cell_id).join_from(
        tables.cell, tables.slide
    )
    cells = {(barcode, name): cell_id for barcode, name, cell_id in connection.execute(asked)}
    with file.open(newline="") as lines:
        return [
            {
                "cell_id": cells[row["slide"], row["file"]],
                "class": MEANINGS[row["label"].lower()].cell_class,
                "sub_label": MEANINGS[row["label"].lower()].sub_label,
                "labelled_by": row["labelled_by"],
                "labelled_at": row["labelled_at"],
                "is_blind": row["blind"] == "1",
                "note": row["note"],
                "source": "csv",
            }
            for row in csv.DictReader(lines)
        ]


def _peak(place: Place, n_rows: int, n_cells: int) -> tuple[float, float]:
    file, settings = write_file(place, n_rows, n_cells), place.fresh(LABELLED_CELLS)
    started = time.perf_counter()
    _imported(settings, file)
    return peak_mib(), time.perf_counter() - started
