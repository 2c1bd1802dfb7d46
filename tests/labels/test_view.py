"""A reviewer adds labels under the login's name through the view `cell_label`, and can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.storage.connections import connect
from tests.labels.conftest import Rows
from tests.laboratory import Laboratory
from tests.storage.conftest import as_superuser, refused

Enter = Callable[..., Any]


@pytest.fixture
def anna(database_url: str) -> sa.Engine:
    """A login that has only the reviewer's rights."""
    with as_superuser(database_url).connect() as connection:
        for name in ("anna", "ben"):
            connection.execute(
                sa.text(
                    f"DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{name}') THEN "
                    f"CREATE ROLE {name} LOGIN IN ROLE bloodcell_reviewer; END IF; END $$"
                )
            )
    return as_login(database_url, "anna")


def as_login(url: str, name: str) -> sa.Engine:
    return connect(sa.make_url(url).set(username=name).render_as_string(hide_password=False))


def enter(engine: sa.Engine, **columns: object) -> sa.Row[Any]:
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    with engine.begin() as connection:
        statement = f"INSERT INTO bloodcell.cell_label ({names}) VALUES ({values}) RETURNING *"
        return connection.execute(sa.text(statement), columns).one()


@pytest.mark.usefixtures("cells")
def test_a_label_is_entered_under_the_login_and_returned_complete(anna: sa.Engine, rows: Rows) -> None:
    entered = enter(anna, barcode="S1", file_name="0.jpg", label="sne", is_blind=True, note="  large \n")
    assert (entered._mapping["class"], entered.sub_label) == ("neutrophil", "SNE")
    assert (entered.labelled_by, entered.recorded_by, entered.is_blind, entered.is_adjudication, entered.note) == (
        *("anna", "anna"),
        *(True, False, "large"),
    )
    assert abs(entered.labelled_at - datetime.now(UTC)) < timedelta(minutes=1)
    stored = rows("SELECT label_id, label, labelled_by, recorded_by, source, run_id FROM bloodcell.cell_label")
    assert stored == [(entered.label_id, "SNE", "anna", "anna", "view", None)]


def test_a_cell_can_be_named_by_its_id_and_both_names_have_to_agree(anna: sa.Engine, cells: list[int]) -> None:
    assert enter(anna, cell_id=cells[3], label="BL").cell_id == cells[3]
    assert enter(anna, cell_id=cells[3], barcode="S1", file_name="3.jpg", label="SMU").cell_id == cells[3]
    for columns in (
        {"cell_id": cells[3], "barcode": "S2"},
        {"cell_id": cells[3], "file_name": "4.jpg"},
        {"cell_id": 77_777},
        {"barcode": "S1"},
        {"file_name": "0.jpg"},
        {"barcode": "S1", "file_name": "x'; DROP TABLE bloodcell.label;--"},
    ):
        with refused("23503"):
            enter(anna, label="LY", **columns)


@pytest.mark.parametrize("label", ["blast", "", " ", None, "'; --"])
def test_an_unknown_label_is_refused(anna: sa.Engine, cells: list[int], label: str | None) -> None:
    with refused("23514"):
        enter(anna, cell_id=cells[0], label=label)


def test_labels_in_another_name_or_in_the_future_are_refused(anna: sa.Engine, cells: list[int], rows: Rows) -> None:
    with refused():
        enter(anna, cell_id=cells[0], label="LY", labelled_by="ben")
    assert enter(anna, cell_id=cells[0], label="LY", labelled_by="anna", recorded_by="ben").recorded_by == "anna"
    for at in (datetime.now(UTC) + timedelta(minutes=10), datetime(1999, 12, 31, tzinfo=UTC)):
        with refused("23514"):
            enter(anna, cell_id=cells[0], label="LY", labelled_at=at)
    with pytest.raises(sa.exc.IntegrityError, match="labelled_at is in the future: 2099"):
        enter(anna, cell_id=cells[0], label="LY", labelled_at=datetime(2099, 1, 1, tzinfo=UTC))
    assert rows("SELECT count(*) FROM bloodcell.label") == [(1,)]


def test_a_label_in_a_long_transaction_has_the_time_at_which_it_was_entered(anna: sa.Engine, cells: list[int]) -> None:
    with anna.begin() as connection:
        began = connection.scalar(sa.text("SELECT now()"))
        connection.execute(sa.text("SELECT pg_sleep(0.05)"))
        statement = sa.text(
            "INSERT INTO bloodcell.cell_label (cell_id, label) VALUES (:cell, 'LY') RETURNING recorded_at"
        )
        recorded = connection.scalar(statement, {"cell": cells[0]})
    assert recorded - began >= timedelta(milliseconds=50)


def test_a_duplicates_label_goes_to_its_cell_and_a_quarantined_file_is_refused(
    anna: sa.Engine, laboratory: Laboratory, cells: list[int]
) -> None:
    laboratory.file("S1/twice.jpg", "duplicate", reason="same_image", cell_id=cells[4])
    laboratory.file("S1/broken.jpg", "quarantined", reason="truncated")
    assert enter(anna, barcode="S1", file_name="twice.jpg", label="LY").cell_id == cells[4]
    with pytest.raises(sa.exc.IntegrityError, match=r"was quarantined.*truncated"):
        enter(anna, barcode="S1", file_name="broken.jpg", label="LY")


def test_a_reviewers_session_settings_cannot_bypass_the_rules(anna: sa.Engine, cells: list[int], rows: Rows) -> None:
    with anna.begin() as connection:
        # the reviewer's own objects, which would be found before those that the function means
        connection.execute(sa.text("CREATE TEMP TABLE label (LIKE bloodcell.cell_label)"))
        connection.execute(sa.text("CREATE TEMP TABLE cell_code (code text, class text, name text)"))
        connection.execute(sa.text("INSERT INTO cell_code VALUES ('FAKE', 'ig', 'fake')"))
        connection.execute(sa.text("SET search_path = pg_temp, bloodcell"))
        connection.execute(
            sa.text("INSERT INTO bloodcell.cell_label (cell_id, label) VALUES (:c, 'LY')"), {"c": cells[0]}
        )
    with refused("23514"), anna.begin() as connection:
        connection.execute(sa.text("CREATE TEMP TABLE cell_code (code text, class text, name text)"))
        connection.execute(sa.text("INSERT INTO cell_code VALUES ('FAKE', 'ig', 'fake')"))
        connection.execute(sa.text("SET search_path = pg_temp, bloodcell"))
        connection.execute(
            sa.text("INSERT INTO bloodcell.cell_label (cell_id, label) VALUES (:c, 'FAKE')"), {"c": cells[0]}
        )
    assert rows("SELECT class FROM bloodcell.label") == [("lymphocyte",)]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        # 55000 and 42809: a view that nothing makes changeable
        ("UPDATE bloodcell.cell_label SET label = 'MO'", "55000"),
        ("DELETE FROM bloodcell.cell_label", "55000"),
        ("TRUNCATE bloodcell.cell_label", "42809"),
        ("INSERT INTO bloodcell.current_label (barcode) VALUES ('S1')", "55000"),
        ("INSERT INTO bloodcell.label_code VALUES ('X', 'ig', 'x')", "42501"),
        (
            "INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, source) "
            "VALUES (1, 'ig', 'ben', now(), true, 'view')",
            "42501",
        ),
        ("UPDATE bloodcell.label SET class = 'ig'", "42501"),
        ("DELETE FROM bloodcell.label", "42501"),
        ("SELECT bloodcell.enter_label()", "42501"),
        ("SET ROLE ben", "42501"),
        ("SET ROLE bloodcell_app", "42501"),
        ("SELECT rolpassword FROM pg_authid", "42501"),
        ("SELECT pg_read_file('postgresql.conf')", "42501"),
        ("COPY (SELECT 1) TO PROGRAM 'true'", "42501"),
        ("CREATE TABLE public.own (n int)", "42501"),
        ("SET SESSION AUTHORIZATION ben", "42501"),
    ],
)
def test_a_reviewer_can_do_nothing_else(anna: sa.Engine, cells: list[int], statement: str, code: str) -> None:
    enter(anna, cell_id=cells[0], label="LY")
    with refused(code), anna.begin() as connection:
        connection.execute(sa.text(statement))


CURRENT = "SELECT state, class, sub_label, n_people, is_adjudicated, is_blind, labelled_by FROM bloodcell.current_label"


def test_the_newest_label_of_a_person_stands(anna: sa.Engine, cells: list[int], rows: Rows) -> None:
    enter(anna, cell_id=cells[0], label="LY", is_blind=True)
    enter(anna, cell_id=cells[0], label="BNE")
    assert rows(CURRENT) == [("confirmed", "neutrophil", "BNE", 1, False, False, "anna")]
    assert rows("SELECT count(*) FROM bloodcell.cell_label") == [(2,)]


def test_two_people_who_disagree_contest_a_cell_until_somebody_adjudicates(
    anna: sa.Engine, database_url: str, cells: list[int], rows: Rows
) -> None:
    ben = as_login(database_url, "ben")
    enter(anna, cell_id=cells[0], label="SNE")
    enter(ben, cell_id=cells[0], label="BNE")
    assert rows(CURRENT) == [("confirmed", "neutrophil", None, 2, False, False, "anna, ben")]  # of the class they agree
    enter(ben, cell_id=cells[0], label="MO")
    assert rows(CURRENT) == [("contested", None, None, 2, False, False, "anna, ben")]
    assert rows("SELECT label, labelled_by FROM bloodcell.contested_cell ORDER BY 2") == [
        ("SNE", "anna"),
        ("monocyte", "ben"),
    ]
    enter(anna, cell_id=cells[0], label="BL", is_adjudication=True)
    assert rows(CURRENT) == [("out_of_scope", None, "BL", 1, True, False, "anna")]
    assert rows("SELECT count(*) FROM bloodcell.contested_cell") == [(0,)]
    enter(ben, cell_id=cells[0], label="MO")  # who disagrees later contests it again
    assert rows(CURRENT) == [("contested", None, None, 2, True, False, "anna, ben")]


def test_people_who_say_blast_and_variant_lymphocyte_of_one_cell_disagree(
    anna: sa.Engine, database_url: str, cells: list[int], rows: Rows
) -> None:
    enter(anna, cell_id=cells[0], label="BL")
    enter(as_login(database_url, "ben"), cell_id=cells[0], label="VLY")
    assert rows(CURRENT) == [("contested", None, None, 2, False, False, "anna, ben")]


def test_an_adjudication_settles_an_earlier_label_that_arrives_later(
    anna: sa.Engine, database_url: str, cells: list[int], rows: Rows
) -> None:
    enter(anna, cell_id=cells[0], label="LY", is_adjudication=True)
    ben = as_login(database_url, "ben")
    enter(ben, cell_id=cells[0], label="MO", labelled_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert rows(CURRENT) == [("confirmed", "lymphocyte", None, 1, True, False, "anna")]


def test_the_labels_of_one_slide_are_found_without_reading_all_others(
    laboratory: Laboratory, database_url: str, rows: Rows
) -> None:
    for slide in range(30):
        laboratory.cells(laboratory.slide(f"S{slide}"), ["LY"] * 100)
    with as_superuser(database_url).connect() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, source) "
                "SELECT cell_id, 'ig', 'p' || p, '2026-03-01', false, 'view' "
                "FROM bloodcell.cell, generate_series(1, 5) p"
            )
        )
        connection.execute(sa.text("ANALYZE"))
    for asked in ("barcode = 'S3'", "cell_id = 5"):
        plan = [str(line) for (line,) in rows(f"EXPLAIN SELECT * FROM bloodcell.current_label WHERE {asked}")]
        assert not [line for line in plan if "Seq Scan on label" in line], "\n".join(plan)
