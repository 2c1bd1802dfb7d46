"""The meaning of a written label; the view in the database has the same rule and the same codes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES, CLASS_OF_CODE, CODES_OUT_OF_SCOPE, FINER_CODES
from bloodcell.cells.label_meanings import MEANINGS, Meaning, meaning_of
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from bloodcell.visible_text import has_invisible
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


def test_the_view_refuses_the_same_invisible_characters_in_a_note_as_the_library(database: Database) -> None:
    ranges = [range(1, 0xD800), range(0xE000, 0x1_0000), range(0x1_BC00, 0x1_D200), range(0xD_FFFE, 0xE_1002)]
    found = sa.text("SELECT n FROM unnest(CAST(:codes AS int[])) n WHERE bloodcell.has_invisible(chr(n))")
    codes = [code for part in ranges for code in part]
    with database.connect() as connection:
        refused = set(connection.scalars(found, {"codes": codes}))
    assert refused == {code for code in codes if has_invisible(chr(code)) and chr(code) not in "\t\n\r"}


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
