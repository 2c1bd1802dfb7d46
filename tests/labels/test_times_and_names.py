"""Time and author of a label: zones, fast clocks, accents, names that look like SQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bloodcell.results.stored_result import find_slide
from bloodcell.storage.database import Database
from tests.labels.conftest import AT, HEADER, INSTANT, Labelled, Rows, texts
from tests.laboratory import Laboratory


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize(
    "at",
    [
        "2026-03-15T08:30:00Z",
        "2026-03-15 08:30",
        "20260315T083000.000000",
        "2026-03-16T04:30:00+20:00",
        "2026-03-14T08:31:00-23:59",
        "2026-03-15T09:30:30.5+01:00:30.5",
    ],
)
def test_an_instant_is_the_same_in_any_zone_and_utc_without_one(labelled: Labelled, rows: Rows, at: str) -> None:
    assert labelled(f"S1,0.jpg,LY,anna,{at}").n_new == 1
    assert rows("SELECT labelled_at FROM bloodcell.label") == [(INSTANT,)]


@pytest.mark.usefixtures("cells")
def test_the_repeated_hour_of_autumn_is_two_hours_if_the_zone_is_given(labelled: Labelled, rows: Rows) -> None:
    done = labelled("S1,0.jpg,LY,anna,2025-10-26T02:30:00+01:00", "S1,0.jpg,MO,anna,2025-10-26T02:30:00+02:00")
    assert (done.n_new, done.n_contested) == (2, 0)
    assert rows("SELECT class FROM bloodcell.current_label") == [("lymphocyte",)]


@pytest.mark.usefixtures("cells")
def test_a_person_is_the_same_in_any_encoding_of_accents_and_spaces(labelled: Labelled, rows: Rows) -> None:
    done = labelled(
        f"S1,0.jpg,LY,Dr. Ju\N{COMBINING DIAERESIS}rgen,{AT}", f"S1,0.jpg,LY,Dr.\N{NO-BREAK SPACE}Jürgen ,{AT}"
    )
    assert (done.n_new, done.n_repeated) == (1, 1)
    assert rows("SELECT labelled_by FROM bloodcell.label") == [("Dr. Jürgen",)]


@pytest.mark.usefixtures("cells")
def test_a_time_in_the_future_is_refused_except_for_a_slightly_fast_clock(labelled: Labelled) -> None:
    soon, later = (datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (3, 10))
    done = labelled(f"S1,0.jpg,LY,anna,{soon.isoformat()}", f"S1,1.jpg,LY,anna,{later.isoformat()}", partial=True)
    assert (done.n_new, done.n_refused) == (1, 1)
    assert texts(done)[0].startswith("3: labelled_at 2")


@pytest.mark.usefixtures("cells")
def test_names_that_look_like_sql_are_data(laboratory: Laboratory, labelled: Labelled, rows: Rows) -> None:
    hostile = "Robert'); DROP TABLE bloodcell.label;--"
    laboratory.cells(laboratory.slide(hostile), ["LY"], names=["\\N"])
    done = labelled(f"{hostile},\\N,LY,{hostile}\\,{AT},\\.", header=f"{HEADER},note")
    assert done.n_new == 1
    assert rows("SELECT barcode, file_name, labelled_by, note FROM bloodcell.cell_label") == [
        (hostile, "\\N", f"{hostile}\\", "\\.")
    ]


def test_composed_and_decomposed_names_find_each_other(
    laboratory: Laboratory, labelled: Labelled, database: Database
) -> None:
    laboratory.cells(laboratory.slide("Sé"), ["LY"], names=["LY_ö.jpg"])
    done = labelled(f"Se\u0301,LY_o\u0308.jpg,LY,anna,{AT}", header="slide,file,label,labelled_by,labelled_at")
    assert (done.n_new, done.n_refused) == (1, 0)
    with database.connect() as connection:
        assert find_slide(connection, "Se\u0301") == find_slide(connection, "Sé")


@pytest.mark.parametrize("name", ["an\u200bna", "anna\u202e", "anna\u3164", "anna\ufeff"])
def test_a_person_or_a_note_with_invisible_characters_is_refused(
    cells: list[int], labelled: Labelled, name: str
) -> None:
    header = "cell_id,label,labelled_by,labelled_at,note"
    done = labelled(f"{cells[0]},LY,{name},{AT},", f"{cells[0]},LY,anna,{AT},{name}", header=header)
    assert (done.n_new, done.n_refused) == (0, 2)
    assert all("visible characters" in text and name not in text for text in texts(done))
