"""Matches rows to cells, names wrong rows and appends labels, each in one statement for all rows.

new_label   the rows as they were sent
placed      the same rows with the cell that they name, or the problem
judged      the same rows, with those marked that contradict each other
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from bloodcell.labels.label_outcomes import IN_THE_FUTURE, MAX_ERRORS, RowErrors, shown
from bloodcell.labels.label_rows import COLUMNS

NEW_LABELS: Final = """
CREATE TEMP TABLE new_label (row_number BIGINT, barcode TEXT, file_name TEXT, cell_id BIGINT, sha256 TEXT, class TEXT,
    sub_label TEXT, labelled_by TEXT, labelled_at TIMESTAMP WITH TIME ZONE, is_blind BOOLEAN, is_adjudication BOOLEAN,
    note TEXT) ON COMMIT DROP
"""
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

    Returns the same when it is repeated under the same run, whether or not the first commit took place.
    """
    by_image = source == "folder"
    _do(connection, "ANALYZE new_label")
    _do(connection, _PLACE_BY_IMAGE if by_image else _PLACE_BY_NAME)
    _do(connection, "ANALYZE placed")
    if connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM placed WHERE problem IN ('file', 'slide', 'image'))")):
        _do(connection, _SET_ASIDE_BY_IMAGE if by_image else _SET_ASIDE_BY_NAME)
    # in a folder the time is the file's, and does not tell which of two places the person meant
    _do(connection, _JUDGE.format(time="" if by_image else ", labelled_at"))
    _do(connection, "ANALYZE judged")
    of_run = {"run_id": run_id}
    unless_known = _UNLESS_NEWEST_SAYS_SO if by_image else ""
    connection.execute(sa.text(_APPEND.format(unless_known=unless_known)), {"source": source, **of_run})
    connection.execute(sa.select(sa.func.bloodcell.analyze_labels()))
    connection.execute(sa.text(_CONTRADICTS_LABEL), of_run)
    n_taken, n_new, n_repeated = connection.execute(sa.text(_COUNT), of_run).one()
    n_missing = _report(connection, errors)
    n_contested = connection.scalar(sa.text(_CONTESTED)) or 0
    return Matched(n_new, n_taken - n_new, n_repeated, n_contested, n_missing)


def _do(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _report(connection: sa.Connection, errors: RowErrors) -> int:
    """Adds the refused rows to the errors; returns how many may become valid after another ingest."""
    n_refused, n_missing = connection.execute(sa.text(_COUNT_REFUSED)).one()
    refused = connection.execute(sa.text(_REFUSED), {"most": MAX_ERRORS}).all()
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
    "file": lambda row: f"slide {shown(row.barcode)} has no cell {shown(row.file_name)}: see the view file_account",
    "image": lambda row: (
        f"{_place(row)} ({row.label}): no cell has this image: it belongs to no slide, it was changed, or its night "
        "is not ingested yet"
    ),
    "other_slide": lambda row: f"{_place(row)} ({row.label}): the image belongs to slide {row.detail}: move it there",
    "quarantined": lambda row: (
        f"{_place(row)} was quarantined, so there is no cell to label: {row.detail}. Fix the file and ingest "
        "its night again, or remove the label"
    ),
    "ignored": lambda row: f"{_place(row)} is not a cell, it was ignored: {row.detail}",
    "future": lambda row: f"labelled_at {row.labelled_at} {IN_THE_FUTURE}",
    "row": lambda row: f"contradicts another row of the same person and cell: {row.detail}. Keep the correct one",
    "label": lambda row: (
        f"contradicts a label that {shown(row.labelled_by)} gave the cell at the same time: the label is "
        f"{row.detail}, the row says {row.label}. A correction needs a labelled_at of its own"
    ),
}

_ROW: Final = "n.class, n.sub_label, n.labelled_by, n.labelled_at, n.is_blind, n.is_adjudication, n.note"
_SPACE: Final = r"E' \t\n\r\f'"  # rows.SPACE
_IS_FUTURE: Final = "n.labelled_at > now() + interval '5 minutes'"

# a cell_id is trusted only if slide and file agree with it, since it may be from another database
_PLACE_BY_NAME: Final = f"""
CREATE TEMP TABLE placed ON COMMIT DROP AS
SELECT n.row_number, n.barcode, n.file_name, n.cell_id AS given_id, NULL::text AS sha256, {_ROW},
       coalesce(named.cell_id, given.cell_id) AS cell_id,
       CASE WHEN {_IS_FUTURE} THEN 'future'
            WHEN n.cell_id IS NOT NULL AND given.cell_id IS NULL THEN 'cell'
            WHEN n.cell_id IS NOT NULL AND (btrim(n.barcode, {_SPACE}) <> btrim(of_given.barcode, {_SPACE})
                 OR btrim(n.file_name, {_SPACE}) <> btrim(given.file_name, {_SPACE})) THEN 'other_cell'
            WHEN n.cell_id IS NULL AND slide.slide_id IS NULL THEN 'slide'
            WHEN n.cell_id IS NULL AND named.cell_id IS NULL THEN 'file' END AS problem,
       of_given.barcode || '/' || given.file_name AS detail
FROM new_label n
LEFT JOIN bloodcell.slide ON n.cell_id IS NULL AND slide.barcode = n.barcode
LEFT JOIN bloodcell.cell named ON named.slide_id = slide.slide_id AND named.file_name = n.file_name
LEFT JOIN bloodcell.cell given ON given.cell_id = n.cell_id
LEFT JOIN bloodcell.slide of_given ON of_given.slide_id = given.slide_id
"""  # noqa: S608 - of constants only

# several cells may have the image: those with that name if there are any, otherwise all of them
_PLACE_BY_IMAGE: Final = f"""
CREATE TEMP TABLE placed ON COMMIT DROP AS
SELECT n.row_number, n.barcode, n.file_name, NULL::bigint AS given_id, n.sha256, {_ROW}, found.cell_id,
       CASE WHEN found.cell_id IS NULL THEN 'image' WHEN NOT found.is_there THEN 'other_slide' END AS problem,
       found.barcode AS detail
FROM new_label n
LEFT JOIN (
    SELECT m.row_number, cell.cell_id, slide.barcode, m.barcode IS NULL OR slide.barcode = m.barcode AS is_there,
           rank() OVER (PARTITION BY m.row_number ORDER BY (slide.barcode = m.barcode) IS TRUE DESC,
                        cell.file_name = m.file_name DESC) AS place
    FROM new_label m JOIN bloodcell.cell ON cell.sha256 = m.sha256 JOIN bloodcell.slide USING (slide_id)
) found ON found.row_number = n.row_number AND found.place = 1
"""  # noqa: S608 - of constants only

_TAKE_FROM_LEDGER: Final = """
UPDATE placed p
SET cell_id = d.cell_id, problem = nullif(d.outcome, 'duplicate'), detail = concat_ws(': ', d.reason, d.detail)
FROM (
    SELECT DISTINCT ON (b.row_number) b.row_number, f.outcome, f.cell_id, f.reason, f.detail
    FROM placed b JOIN bloodcell.drop_file f ON {same_file}
    WHERE b.problem IN ('file', 'slide', 'image') AND f.outcome <> 'cell'
    ORDER BY b.row_number, f.outcome = 'duplicate' DESC, f.updated_at DESC
) d
WHERE d.row_number = p.row_number
"""
_SET_ASIDE_BY_NAME: Final = _TAKE_FROM_LEDGER.format(
    same_file="f.barcode = b.barcode AND f.path IN (b.file_name, b.barcode || '/' || b.file_name)"
)
_SET_ASIDE_BY_IMAGE: Final = _TAKE_FROM_LEDGER.format(same_file="f.sha256 = b.sha256")

# of rows that contradict each other nobody knows the right one, so none is imported
_JUDGE: Final = """
CREATE TEMP TABLE judged ON COMMIT DROP AS
SELECT p.row_number, p.barcode, p.file_name, p.given_id, p.cell_id, p.class, p.sub_label,
       coalesce(p.sub_label, p.class) AS label, p.labelled_by, p.labelled_at, p.is_blind, p.is_adjudication, p.note,
       CASE WHEN p.problem IS NOT NULL THEN p.problem WHEN min(said) OVER same <> max(said) OVER same THEN 'row' END
           AS problem,
       CASE WHEN p.problem IS NOT NULL THEN p.detail
            ELSE 'row ' || min(row_number) OVER same || ' and row ' || max(row_number) OVER same END AS detail,
       row_number() OVER (same ORDER BY row_number) = 1 AS is_first
FROM (SELECT *, ROW(class, sub_label, is_blind, is_adjudication, note)::text AS said FROM placed) p
WINDOW same AS (PARTITION BY problem IS NULL, cell_id, labelled_by{time})
"""

_APPEND: Final = """
INSERT INTO bloodcell.label (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note,
                             source, run_id)
SELECT j.cell_id, j.class, j.sub_label, j.labelled_by, j.labelled_at, j.is_blind, j.is_adjudication, j.note,
       :source, :run_id
FROM judged j
WHERE j.problem IS NULL AND j.is_first {unless_known}
ORDER BY j.cell_id, j.labelled_by, j.labelled_at
ON CONFLICT ON CONSTRAINT label_once DO NOTHING
"""
# a copied folder has new times, but no new labels
_UNLESS_NEWEST_SAYS_SO: Final = """
AND NOT EXISTS (
    SELECT 1 FROM bloodcell.label l WHERE l.cell_id = j.cell_id AND l.labelled_by = j.labelled_by
    AND l.class IS NOT DISTINCT FROM j.class AND l.sub_label IS NOT DISTINCT FROM j.sub_label
    AND NOT EXISTS (SELECT 1 FROM bloodcell.label newer WHERE newer.cell_id = j.cell_id
                    AND newer.labelled_by = j.labelled_by AND newer.labelled_at > l.labelled_at))
"""

# after the append, so that it also sees what another import has written meanwhile
_CONTRADICTS_LABEL: Final = """
UPDATE judged j SET problem = 'label', detail = coalesce(l.sub_label, l.class)
    || CASE WHEN l.is_blind THEN ', blind' ELSE '' END || CASE WHEN l.is_adjudication THEN ', adjudication' ELSE '' END
    || coalesce(', note ' || quote_literal(left(l.note, 60)), '')
FROM bloodcell.label l
WHERE j.problem IS NULL AND l.run_id IS DISTINCT FROM :run_id
  AND l.cell_id = j.cell_id AND l.labelled_by = j.labelled_by AND l.labelled_at = j.labelled_at
  AND (l.class, l.sub_label, l.is_blind, l.is_adjudication, l.note)
      IS DISTINCT FROM (j.class, j.sub_label, j.is_blind, j.is_adjudication, j.note)
"""
_COUNT: Final = """
SELECT count(*) FILTER (WHERE j.is_first), count(l.label_id) FILTER (WHERE j.is_first),
       count(*) FILTER (WHERE NOT j.is_first)
FROM judged j LEFT JOIN bloodcell.label l
    ON l.cell_id = j.cell_id AND l.labelled_by = j.labelled_by AND l.labelled_at = j.labelled_at AND l.run_id = :run_id
WHERE j.problem IS NULL
"""
_COUNT_REFUSED: Final = """
SELECT count(DISTINCT row_number),
       count(DISTINCT row_number) FILTER (WHERE problem IN ('slide', 'file', 'image', 'quarantined'))
FROM judged WHERE problem IS NOT NULL
"""
_REFUSED: Final = """
SELECT DISTINCT ON (row_number) row_number, problem, detail, barcode, file_name, given_id, label, labelled_by,
       (labelled_at AT TIME ZONE 'UTC')::text || ' UTC' AS labelled_at
FROM judged WHERE problem IS NOT NULL ORDER BY row_number LIMIT :most
"""
_CONTESTED: Final = """
SELECT count(*) FROM (
    SELECT s.cell_id FROM bloodcell.standing_label s
    WHERE s.cell_id IN (SELECT j.cell_id FROM judged j WHERE j.problem IS NULL)
    GROUP BY s.cell_id HAVING min(coalesce(s.class, '')) <> max(coalesce(s.class, ''))
) contested
"""
