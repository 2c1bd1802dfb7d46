"""Matches rows to cells, finds the wrong rows and appends the labels, each in one statement for all rows.

new_label   the rows as they were sent
placed      the same rows, each with the cell that it names or with the problem
judged      the same rows, with contradictory ones marked
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from bloodcell.labels.label_outcomes import IN_THE_FUTURE, MAX_ERRORS, RowErrors, shown
from bloodcell.labels.label_rows import COLUMNS
from bloodcell.storage.statements import load_statements

_SQL: Final = load_statements("labels/matching.sql")
NEW_LABELS: Final = _SQL["new_labels"]
COPY_LABELS: Final = f"COPY new_label ({', '.join(COLUMNS)}) FROM STDIN"


@dataclass(frozen=True, slots=True)
class Matched:
    """The outcome of matching the rows.

    Attributes:
        n_new: Labels that are new.
        n_known: Rows that repeat a label already in the database.
        n_repeated: Rows that repeat an earlier row.
        n_contested: Cells of these rows that are now contested.
        n_missing: Refused rows that become valid once their cell is ingested.
    """

    n_new: int
    n_known: int
    n_repeated: int
    n_contested: int
    n_missing: int


def append_labels(connection: sa.Connection, run_id: uuid.UUID, source: str, errors: RowErrors) -> Matched:
    """Appends the rows of `new_label`; invalid rows go to `errors` and are not appended.

    If repeated under the same run, it returns the same, whether or not the first commit took place.
    """
    by_image = source == "folder"
    by, of_run = ("image" if by_image else "name"), {"run_id": run_id}
    connection.execute(sa.text("ANALYZE new_label"))
    connection.execute(_PLACE[by])
    connection.execute(sa.text("ANALYZE placed"))
    if connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM placed WHERE problem IN ('file', 'slide', 'image'))")):
        connection.execute(_LOOK_UP_FILES[by])
    connection.execute(_SQL["judge"], {"by_image": by_image})
    connection.execute(sa.text("ANALYZE judged"))
    connection.execute(_SQL["append_changes" if by_image else "append"], {"source": source, **of_run})
    connection.execute(sa.select(sa.func.bloodcell.analyze_labels()))
    connection.execute(_SQL["mark_contradictions"], of_run)
    n_taken, n_new, n_repeated = connection.execute(_SQL["count_rows"], of_run).one()
    n_missing = _report(connection, errors)
    n_contested = connection.scalar(_SQL["count_contested"]) or 0
    return Matched(n_new, n_taken - n_new, n_repeated, n_contested, n_missing)


_PLACE: Final = {"name": _SQL["place_by_name"], "image": _SQL["place_by_image"]}
_LOOK_UP_FILES: Final = {"name": _SQL["look_up_files_by_name"], "image": _SQL["look_up_files_by_image"]}


def _report(connection: sa.Connection, errors: RowErrors) -> int:
    """Adds the refused rows to the errors; returns how many may become valid after another ingest."""
    n_refused, n_missing = connection.execute(_SQL["count_refused"]).one()
    refused = connection.execute(_SQL["refused"], {"most": MAX_ERRORS}).all()
    for row in refused:
        errors.add(row.row_number, _TEXTS[row.problem](row))
    errors.n += n_refused - len(refused)
    return int(n_missing)


def _place(row: sa.Row[tuple[object, ...]]) -> str:
    return "/".join(part for part in (row.barcode, row.file_name) if part)


_TEXTS: Final[dict[str, Callable[[sa.Row[tuple[object, ...]]], str]]] = {
    "cell": lambda row: f"cell_id {row.given_id} is unknown: expected one from the view cell_result",
    "other_cell": lambda row: (
        f"cell_id {row.given_id} is {shown(row.detail)}, the row says {shown(_place(row))}: "
        "is the id from another database?"
    ),
    "slide": lambda row: f"slide {shown(row.barcode)} is unknown: check leading zeros, or ingest its night first",
    "withdrawn": lambda row: (
        f"slide {shown(row.barcode or row.detail)} was withdrawn: the view withdrawn_slide says why, and under which "
        "barcode its cells are now"
    ),
    "file": lambda row: f"slide {shown(row.barcode)} has no cell {shown(row.file_name)}: see the view file_account",
    "image": lambda row: (
        f"{_place(row)} ({row.label}): there is no cell with this image: it belongs to no slide, it was changed, or "
        "its night has not been ingested yet"
    ),
    "other_slide": lambda row: f"{_place(row)} ({row.label}): the image belongs to slide {row.detail}: move it there",
    "quarantined": lambda row: (
        f"{_place(row)} was quarantined, so there is no cell to label: {row.detail}. Fix the file and ingest "
        "its night again, or remove the label"
    ),
    "ignored": lambda row: f"{_place(row)} is not a cell but an ignored file: {row.detail}",
    "future": lambda row: f"labelled_at {row.labelled_at} {IN_THE_FUTURE}",
    "row": lambda row: f"contradicts another row for the same person and cell: {row.detail}. Keep the correct one",
    "label": lambda row: (
        f"contradicts a label that {shown(row.labelled_by)} gave the cell at the same time: the label is "
        f"{row.detail}, the row says {row.label}. A correction needs a later labelled_at"
    ),
}
