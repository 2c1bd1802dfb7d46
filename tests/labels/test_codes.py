"""The meaning of a written label; the view in the database has the same rule and the same codes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES, CLASS_OF_CODE, CODES_OUT_OF_SCOPE, FINER_CODES
from bloodcell.labels.codes import MEANINGS, Meaning, meaning_of
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from tests.labels.conftest import Rows


@pytest.mark.parametrize(
    ("label", "meaning"),
    [
        ("neutrophil", Meaning("neutrophil", None)),
        ("IG", Meaning("ig", None)),
        ("SNE", Meaning("neutrophil", "SNE")),
        ("mmy", Meaning("ig", "MMY")),
        ("LY", Meaning("lymphocyte", None)),
        ("NEUTROPHIL", Meaning("neutrophil", None)),
        ("PLT", Meaning("platelet", None)),
        ("bl", Meaning(None, "BL")),
        ("Art", Meaning(None, "ART")),
        ("blast", None),
        ("", None),
    ],
)
def test_classes_and_codes_are_read_in_any_case(label: str, meaning: Meaning | None) -> None:
    assert meaning_of(label) == meaning


def test_a_stored_label_reads_back_as_itself() -> None:
    assert {meaning_of(meaning.label) for meaning in MEANINGS.values()} == set(MEANINGS.values())


def test_codes_in_the_database_are_those_of_the_library(database: Database) -> None:
    with database.connect() as connection:
        codes = connection.execute(sa.select(tables.cell_code)).all()
    stored = {code: (cell_class, name) for code, cell_class, name, _ in codes}
    for code, cell_class, _, sub_label in codes:
        assert meaning_of(code) == Meaning(cell_class, sub_label), code
    names_of_groups = {cell_class.upper() for cell_class in CELL_CLASSES} - {"IG"}
    assert {code: cell_class for code, (cell_class, _) in stored.items()} == {
        code: cell_class for code, cell_class in CLASS_OF_CODE.items() if code not in names_of_groups
    } | dict.fromkeys(CODES_OUT_OF_SCOPE)
    assert {code: stored[code][1] for code in (*CODES_OUT_OF_SCOPE, *FINER_CODES)} == CODES_OUT_OF_SCOPE | FINER_CODES


def test_the_view_accepts_the_same_labels_as_the_library(database_url: str, cells: list[int], rows: Rows) -> None:
    from bloodcell.storage.connections import connect

    insert = sa.text(
        "INSERT INTO bloodcell.cell_label (cell_id, label, labelled_at) VALUES (:cell, :label, :at) "
        "RETURNING class, sub_label"
    )
    with connect(database_url, role="bloodcell_reviewer").begin() as connection:
        for number, (label, meaning) in enumerate(MEANINGS.items()):
            at = f"2026-03-15T10:00:{number:02}Z"
            stored = connection.execute(insert, {"cell": cells[0], "label": f" {label} ", "at": at}).one()
            assert tuple(stored) == (meaning.cell_class, meaning.sub_label), label
    assert rows("SELECT count(*) FROM bloodcell.label") == [(len(MEANINGS),)]
