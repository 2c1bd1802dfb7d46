"""A label file is imported completely or not at all; every wrong row is reported with its number."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, UnusableFileError
from bloodcell.labels import LabelImport, import_labels
from bloodcell.labels.importing import open_labels, take
from bloodcell.labels.label_outcomes import FILE_REASONS, MAX_ERRORS
from bloodcell.report.night_page import summaries_folder, write_night_page
from bloodcell.report.night_report import night_summary
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from bloodcell.storage.runs import Run
from tests.labels.conftest import AT, HEADER, INSTANT, Labelled, Rows, texts
from tests.laboratory import NIGHT, Laboratory, at_once
from tests.storage.conftest import as_superuser

LABELS = (
    "SELECT c.file_name, l.class, l.sub_label, l.labelled_by, l.labelled_at, l.is_blind, l.is_adjudication, l.note "
    "FROM bloodcell.label l JOIN bloodcell.cell c USING (cell_id) ORDER BY 1, 5"
)


def test_rows_become_labels_with_every_field(cells: list[int], labelled: Labelled, rows: Rows) -> None:
    done = labelled(
        f"S1,0.jpg,,SNE,anna,{AT},yes,0,",
        f'S1,1.jpg,,ig,anna,{AT},0,1,"large, with\nazurophil granules"',
        f",,{cells[2]},BL,Jürgen Łoś,2026-03-15 08:30:00,,,",
        f"S1,3.jpg,{cells[3]},ly,anna,2026-03-15T08:30:00Z,FALSE,TRUE,sure",
        header="Slide,FILE,Cell_ID,label,Labelled_By,labelled_at,blind,adjudication,note",
    )
    assert (done.is_taken, done.n_rows, done.n_new, done.n_refused, done.errors) == (True, 4, 4, 0, ())
    assert rows(LABELS) == [
        ("0.jpg", "neutrophil", "SNE", "anna", INSTANT, True, False, None),
        ("1.jpg", "ig", None, "anna", INSTANT, False, True, "large, with\nazurophil granules"),
        ("2.jpg", None, "BL", "Jürgen Łoś", INSTANT, False, False, None),
        ("3.jpg", "lymphocyte", None, "anna", INSTANT, False, True, "sure"),
    ]
    assert rows("SELECT DISTINCT source, run_id = :r FROM bloodcell.label".replace(":r", f"'{done.run_id}'")) == [
        ("csv", True)
    ]
    assert rows("SELECT stage, state, n_cells FROM bloodcell.run_history WHERE stage = 'labels'") == [
        ("labels", "succeeded", 4)
    ]


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_german_spreadsheet_is_read(labelled: Labelled, rows: Rows, mark: bytes, end: str, delimiter: str) -> None:
    lines = [
        "slide;file;label;labelled_by;labelled_at;blind;note",
        f'S1;0.jpg;SNE;"Weiß; Anna";{AT};WAHR;"1,5 Kerne"',
        ";;;;;;",
        f"S1;1.jpg;LY;Müller;{AT};FALSCH;",
    ]
    done = labelled(body=mark + end.join(lines).replace(";", delimiter).replace("Weiß\t ", "Weiß; ").encode())
    assert (done.n_rows, done.n_new) == (2, 2), texts(done)
    assert rows("SELECT labelled_by, is_blind, note FROM bloodcell.label ORDER BY 1") == [
        ("Müller", False, None),
        ("Weiß; Anna", True, "1,5 Kerne"),
    ]


def test_column_names_of_the_views_are_known_and_others_are_ignored_and_reported(
    cells: list[int], labelled: Labelled
) -> None:
    done = labelled(
        f"S1,0.jpg,{cells[0]},2026-03-14,0.41,LY,anna,{AT},t",
        header="barcode,file_name,cell_id,night,confidence,label,labelled_by,labelled_at,Remark",
    )
    assert (done.n_new, done.ignored_columns) == (1, ("night", "confidence", "remark"))


@pytest.mark.usefixtures("cells")
def test_a_person_may_be_named_for_the_whole_file_and_a_row_overrides_it(labelled: Labelled, rows: Rows) -> None:
    assert labelled(f"S1,0.jpg,LY,{AT}", header="slide,file,label,labelled_at", by=" anna ").n_new == 1
    assert labelled(f"S1,0.jpg,LY,,{AT}", f"S1,1.jpg,LY,ben,{AT}", by="anna").n_known == 1
    assert rows("SELECT labelled_by FROM bloodcell.label ORDER BY 1") == [("anna",), ("ben",)]


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"S1,0.jpg,blast,anna,{AT}", "label: expected a class .* received 'blast'"),
        (f"S1,0.jpg,,anna,{AT}", "label: .* received ''"),
        (f"S9,0.jpg,LY,anna,{AT}", "slide 'S9' is unknown: check leading zeros, or ingest its night first"),
        (f"S1,77.jpg,LY,anna,{AT}", "slide 'S1' has no cell '77.jpg'"),
        (f"S1,,LY,anna,{AT}", "names no cell: expected a cell_id, or slide and file"),
        (f"S1,0.jpg,LY,,{AT}", "labelled_by is empty"),
        (
            f"S1,0.jpg,LY,{'a' * 201},{AT}",
            "labelled_by: expected at most 200 visible characters on one line, received 201",
        ),
        (f'S1,0.jpg,LY,"an\nna",{AT}', "on one line"),
        ("S1,0.jpg,LY,anna,", "labelled_at: expected ISO 8601, such as 2026-11-21T14:30:00.01:00, received ''"),
        ("S1,0.jpg,LY,anna,yesterday", "received 'yesterday'"),
        ("S1,0.jpg,LY,anna,15.03.2026 09:30", "received '15.03.2026 09:30'"),
        ("S1,0.jpg,LY,anna,46096", "labelled_at: expected"),
        ("S1,0.jpg,LY,anna,2026-02-30", "received '2026-02-30'"),
        ("S1,0.jpg,LY,anna,1899-12-30T10:00:00Z", "expected a time after 2000-01-01"),
        ("S1,0.jpg,LY,anna,0001-01-01T00:00:00+14:00", "expected a time after 2000-01-01"),
        ("S1,0.jpg,LY,anna,9999-12-31T23:59:59-14:00", "is in the future"),
        ("S1,0.jpg,LY,anna,9998-12-31T23:59:59-23:59", "is in the future; a time without a zone is read as UTC"),
        ("S1,0.jpg,LY,anna,2026-03-15T24:00", "labelled_at: expected ISO 8601"),
        (f"S1,0.jpg,LY\N{NO-BREAK SPACE},anna,{AT}", "label: .* received 'LY.xa0'"),
        ("S1,0.jpg,LY,anna", "expected 5 fields as in the first row, received 4"),
        (f"S1,0.jpg,LY,anna,{AT},more", "expected 5 fields as in the first row, received 6"),
        (f"S1,0\0.jpg,LY,anna,{AT}", "file: expected visible characters, received others in .0.*.jpg."),
        (f"S1,{'0' * 2000}.jpg,LY,anna,{AT}", "file: expected at most 1,000 characters, received 2,004"),
        (f"S1,'; DROP TABLE bloodcell.label;--,LY,anna,{AT}", "has no cell .*DROP TABLE"),
    ],
)
def test_a_wrong_row_is_reported_with_its_number_and_nothing_is_imported(
    labelled: Labelled, rows: Rows, line: str, said: str
) -> None:
    import re

    done = labelled(f"S1,5.jpg,LY,anna,{AT}", line)
    assert (done.is_taken, done.n_rows, done.n_new, done.n_refused) == (False, 2, 0, 1)
    (text,) = texts(done)
    assert re.fullmatch(f"3: .*{said}.*", text, re.S), text
    assert rows("SELECT count(*) FROM bloodcell.label") == [(0,)]
    assert rows("SELECT state, error IS NOT NULL FROM bloodcell.run_history WHERE stage = 'labels'") == [
        ("failed", True)
    ]


@pytest.mark.usefixtures("cells")
def test_partial_imports_the_valid_rows_and_reports_the_others(labelled: Labelled, rows: Rows) -> None:
    done = labelled(
        f"S1,0.jpg,LY,anna,{AT}",
        f"S9,0.jpg,LY,anna,{AT}",
        f"S1,1.jpg,??,anna,{AT}",
        f"S1,2.jpg,LY,anna,{AT}",
        partial=True,
    )
    assert (done.is_taken, done.n_rows, done.n_new, done.n_refused) == (True, 4, 2, 2)
    assert [error.row for error in done.errors] == [3, 4]
    assert rows("SELECT file_name FROM bloodcell.cell_label ORDER BY 1") == [("0.jpg",), ("2.jpg",)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("77777", "cell_id 77777 is unknown"),
        ("9223372036854775807", "cell_id 9223372036854775807 is unknown"),
        ("9223372036854775808", "cell_id: expected a whole number"),
        ("12.0", "cell_id: expected a whole number"),
        ("²", "cell_id: expected a whole number"),
        ("-1", "cell_id: expected a whole number"),
    ],
)
@pytest.mark.usefixtures("cells")
def test_an_unknown_cell_id_is_refused(labelled: Labelled, given: str, said: str) -> None:
    done = labelled(f"{given},LY,anna,{AT}", header="cell_id,label,labelled_by,labelled_at")
    assert said in texts(done)[0]


def test_a_cell_id_of_another_database_is_detected_by_its_slide(
    cells: list[int], labelled: Labelled, rows: Rows
) -> None:
    header = "cell_id,slide,file,label,labelled_by,labelled_at"
    done = labelled(f"{cells[0]},S1,1.jpg,LY,anna,{AT}", header=header)
    assert texts(done) == [
        f"2: cell_id {cells[0]} is 'S1/0.jpg', the row says 'S1/1.jpg': is the id from another database?"
    ]
    assert labelled(f"{cells[0]},S1,,LY,anna,{AT}", header=header).n_new == 1


def test_a_quarantined_file_is_reported_with_its_reason(
    laboratory: Laboratory, cells: list[int], labelled: Labelled
) -> None:
    laboratory.file("S1/broken.jpg", "quarantined", reason="truncated", detail="expected 9,000 bytes, received 12")
    laboratory.file("S2/other.jpg", "quarantined", reason="slide_identity", detail="whose is it?")
    laboratory.file("S1/hidden.jpg", "ignored", reason="gone")
    done = labelled(
        f"S1,broken.jpg,LY,anna,{AT}",
        f"S2,other.jpg,LY,anna,{AT}",
        f"S1,hidden.jpg,LY,anna,{AT}",
        f"S1,0.jpg,LY,a,{AT}",
    )
    assert texts(done) == [
        "2: S1/broken.jpg was quarantined, so there is no cell to label: truncated: expected 9,000 bytes, received 12. "
        "Fix the file and ingest its night again, or remove the label",
        "3: S2/other.jpg was quarantined, so there is no cell to label: slide_identity: whose is it?. "
        "Fix the file and ingest its night again, or remove the label",
        "4: S1/hidden.jpg is not a cell but an ignored file: gone",
    ]


def test_the_label_of_a_duplicate_goes_to_the_cell_it_repeats(
    laboratory: Laboratory, cells: list[int], labelled: Labelled, rows: Rows
) -> None:
    laboratory.file("S1/twice.jpg", "quarantined", reason="truncated", detail="")
    with_other_night = Laboratory(laboratory.database, night=datetime(2026, 3, 15, tzinfo=UTC).date())
    with_other_night.file("S1/twice.jpg", "duplicate", reason="same_image", cell_id=cells[4])
    assert labelled(f"S1,twice.jpg,LY,anna,{AT}").n_new == 1
    assert rows("SELECT cell_id FROM bloodcell.label") == [(cells[4],)]
    again = labelled(f"S1,twice.jpg,LY,anna,{AT}", f"S1,4.jpg,LY,anna,{AT}", f"S1,4.jpg,MO,ben,{AT}")
    assert (again.n_new, again.n_known, again.n_repeated) == (1, 1, 1)


@pytest.mark.usefixtures("cells")
def test_importing_again_adds_nothing(labelled: Labelled, rows: Rows) -> None:
    lines = [f"S1,{n}.jpg,SNE,anna,{AT}" for n in range(10)]
    assert labelled(*lines).n_new == 10
    # the same instant, written differently
    again = labelled(*(line.replace(AT, "2026-03-15T08:30:00Z") for line in lines))
    assert (again.is_taken, again.n_new, again.n_known) == (True, 0, 10)
    assert rows("SELECT count(*) FROM bloodcell.label") == [(10,)]


@pytest.mark.usefixtures("cells")
def test_repeated_rows_count_once_and_contradicting_rows_are_refused(labelled: Labelled, rows: Rows) -> None:
    done = labelled(
        f"S1,0.jpg,SNE,anna,{AT}",
        f"S1,0.jpg,sne,anna,{AT}",
        f"S1,1.jpg,SNE,anna,{AT}",
        f"S1,2.jpg,LY,anna,{AT}",
        f"S1,1.jpg,BNE,anna,{AT}",
        f"S1,1.jpg,BNE,ben,{AT}",
        "S1,1.jpg,MO,anna,2026-03-16T09:30:00Z",
        partial=True,
    )
    assert (done.n_new, done.n_repeated, done.n_refused, done.n_contested) == (4, 1, 2, 1)
    assert texts(done) == [
        f"{row}: contradicts another row for the same person and cell: row 4 and row 6. Keep the correct one"
        for row in (4, 6)
    ]


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize(
    ("row", "there"),
    [
        ("S1,0.jpg,BNE,anna,{at},,,fine", "SNE, note 'fine'"),
        ("S1,0.jpg,SNE,anna,{at},1,,fine", "SNE, note 'fine'"),
        ("S1,0.jpg,SNE,anna,{at},,1,fine", "SNE, note 'fine'"),
        ("S1,0.jpg,SNE,anna,{at},,,other", "SNE, note 'fine'"),
    ],
)
def test_a_row_that_contradicts_an_existing_label_is_refused(
    labelled: Labelled, rows: Rows, row: str, there: str
) -> None:
    header = f"{HEADER},blind,adjudication,note"
    assert labelled(f"S1,0.jpg,SNE,anna,{AT},,,fine", header=header).n_new == 1
    done = labelled(row.format(at=AT), f"S1,1.jpg,LY,anna,{AT},,,", header=header)
    assert (done.is_taken, done.n_new, done.n_refused) == (False, 0, 1)
    assert f"2: contradicts a label that 'anna' gave the cell at the same time: the label is {there}" in texts(done)[0]
    assert rows("SELECT sub_label FROM bloodcell.label") == [("SNE",)]


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        (b"", "no_labels", "received an empty file"),
        (f"{HEADER}\n".encode(), "no_labels", "received none"),
        (f"{HEADER}\n,,,,\n\n".encode(), "no_labels", "received none"),
        (b"slide,label,labelled_at\n", "missing_columns", r"cell_id \(or slide and file\), labelled_by"),
        (b"\n\n\n", "missing_columns", "expected also label"),
        (f"{HEADER},SLIDE\n".encode(), "missing_columns", "received twice: slide"),
        (f"{HEADER}\nS1,0.jpg,LY,M\xfcller,{AT}\n".encode("latin-1"), "wrong_encoding", "row 2.*byte 54.*0xFC"),
        (f"{HEADER}\n".encode("utf-16"), "wrong_encoding", "UTF-16"),
        (b"PK\x03\x04\x14\0\x06\0", "not_csv", "workbook"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "wrong_encoding", "byte 0 of the file, 0x89"),
        (b"\x7fELF\0\0\0", "not_csv", "NUL byte at byte 4"),
        (b"hello, this is a letter\nand no table\n", "missing_columns", "expected also label"),
        (f'{HEADER}\nS1,"0.jpg,LY,anna,{AT}\nS1,1.jpg,LY,anna,{AT}\n'.encode(), "not_csv", "row 2.*never closed"),
        (f'{HEADER}\nS1,0.jpg,LY,"anna"x,{AT}\n'.encode(), "not_csv", "row 2"),
        (f"{HEADER}\rS1,0.jpg,LY,anna,{AT}\r".encode(), "not_csv", "row 1.*new-line character"),
        (f"{HEADER}\nS1,{'x' * 200_000},LY,anna,{AT}\n".encode(), "not_csv", "row 2.*field larger than field limit"),
        (b"x" * 2_000_000, "not_csv", "lines of less than"),
    ],
)
def test_a_file_that_is_not_a_table_of_labels_is_refused_with_the_row_number(
    labelled: Labelled, rows: Rows, body: bytes, reason: str, said: str
) -> None:
    with pytest.raises(UnusableFileError, match=f"(?s){said}") as caught:
        labelled(body=body, partial=True)
    assert caught.value.reason == reason
    assert FILE_REASONS[reason] in str(caught.value)
    assert rows("SELECT count(*) FROM bloodcell.label") == [(0,)]


@pytest.mark.usefixtures("cells")
def test_a_bad_byte_far_into_the_file_rolls_back_the_rows_before_it(labelled: Labelled, rows: Rows) -> None:
    good = "".join(f"S1,{n % 10}.jpg,LY,p{n},{AT}\n" for n in range(20_000)).encode()
    with pytest.raises(UnusableFileError, match=r"row 20002.*0xFF"):
        labelled(body=f"{HEADER}\n".encode() + good + b"\xff\n", partial=True)
    assert rows("SELECT count(*) FROM bloodcell.label") == [(0,)]


@pytest.mark.usefixtures("cells")
def test_all_wrong_rows_are_counted_and_the_first_are_reported(labelled: Labelled) -> None:
    lines = [f"S1,0.jpg,{'??' if n % 2 else 'LY'},anna,{'x' if n % 2 else AT}" for n in range(10)]
    done = labelled(*lines, *(f"S9,{n}.jpg,LY,anna,{AT}" for n in range(3_000)), partial=True)
    assert (done.n_new, done.n_refused, len(done.errors)) == (1, 3_005, MAX_ERRORS)
    assert [error.row for error in done.errors] == sorted(error.row for error in done.errors)
    assert done.errors[0].row == 3


def test_a_missing_file_or_an_empty_name_is_reported(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no file or folder"):
        import_labels(tmp_path / "none.csv", settings)
    (tmp_path / "a.csv").touch()
    with pytest.raises(ConfigurationError, match="labelled_by is empty"):
        import_labels(tmp_path / "a.csv", settings, labelled_by="  ")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    with pytest.raises(UnusableFileError, match="unreadable"):
        import_labels(tmp_path / "link.csv", settings)


@pytest.mark.usefixtures("cells")
def test_one_label_in_two_files_counts_once(labelled: Labelled, rows: Rows) -> None:
    assert labelled(f"S1,0.jpg,LY,anna,{AT}", f"S1,1.jpg,LY,anna,{AT}").n_new == 2
    second = labelled(
        f"anna;{AT};BL;2.jpg;S1", f"anna;{AT};ly;1.jpg;S1", header="labelled_by;labelled_at;label;file;slide"
    )
    assert (second.n_new, second.n_known) == (1, 1)
    assert rows("SELECT count(*) FROM bloodcell.label") == [(3,)]


@pytest.mark.usefixtures("cells")
def test_two_imports_at_once_leave_the_labels_of_one(settings: Settings, tmp_path: Path, rows: Rows) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{HEADER}\n" + "".join(f"S1,{n % 10}.jpg,LY,p{n},{AT}\n" for n in range(5_000)))
    done: list[LabelImport] = []
    assert not at_once(3, lambda: done.append(import_labels(file, settings)))
    assert sorted(one.n_new for one in done) == [0, 0, 5_000]
    assert sorted(one.n_known for one in done) == [0, 5_000, 5_000]
    assert rows("SELECT count(*) FROM bloodcell.label") == [(5_000,)]


@pytest.mark.usefixtures("cells")
def test_progress_is_reported_in_bytes_up_to_the_end(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{HEADER}\n" + "".join(f"S1,{n % 10}.jpg,LY,p{n},{AT}\n" for n in range(5_000)))
    told: list[tuple[str, int, int]] = []
    import_labels(file, settings, on_progress=lambda *step: told.append(step))
    size = file.stat().st_size
    assert [step for step in told if step[0] == "Read"][-1] == ("Read", size, size)
    assert len(told) > 4
    assert told[-1] == ("Match", 1, 1)


@pytest.mark.usefixtures("cells")
def test_after_a_lost_connection_the_file_is_read_again(
    settings: Settings, database_url: str, tmp_path: Path, rows: Rows
) -> None:
    others = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    file = tmp_path / "labels.csv"
    file.write_text(f"{HEADER}\n" + "".join(f"S1,{n}.jpg,LY,anna,{AT}\n" for n in range(10)))
    cut: list[int] = []

    def cut_once(step: str, done: int, _: int) -> None:
        if (step, done) == ("Match", 0):
            cut.append(len(cut))
            if len(cut) == 1:
                with connect(database_url).connect() as connection:
                    connection.execute(sa.text(others)).all()

    done = import_labels(file, settings, on_progress=cut_once)
    assert cut == [0, 1]
    assert (done.n_rows, done.n_new, done.n_known) == (10, 10, 0)
    assert rows("SELECT count(*) FROM bloodcell.label") == [(10,)]


@pytest.mark.usefixtures("cells")
def test_repeating_an_import_under_the_same_run_has_the_same_outcome(
    settings: Settings, database: Database, laboratory: Laboratory, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{HEADER}\n" + "".join(f"S1,{n}.jpg,LY,anna,{AT}\n" for n in (0, 1, 1)))
    run, labels = Run(laboratory.run("labels")), open_labels(file, settings, None)
    outcomes = []
    for _ in range(2):  # as after a commit that may or may not have taken place
        with database.begin() as connection:
            outcomes.append(take(connection, run, labels, file))
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0].n_new, outcomes[0].n_repeated) == (2, 1)


@pytest.mark.slow
def test_an_import_after_a_killed_one_is_just_as_quick(
    laboratory: Laboratory, database_url: str, settings: Settings, tmp_path: Path
) -> None:
    laboratory.cells(laboratory.slide("S1"), ["LY"] * 10, names=[f"{n}.jpg" for n in range(10)])
    administrator = as_superuser(database_url)
    with administrator.connect() as connection:
        # what a killed import leaves behind once the server has cleaned up: a table of many pages without a row
        connection.execute(
            sa.text(
                "DO $$ BEGIN INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, source) "
                "SELECT cell_id, 'ig', 'p' || n, '2026-03-01', false, 'csv' "
                "FROM bloodcell.cell, generate_series(1, 3000) n; RAISE division_by_zero; "
                "EXCEPTION WHEN division_by_zero THEN NULL; END $$"
            )
        )
        connection.execute(sa.text("ANALYZE bloodcell.label"))
    file = tmp_path / "labels.csv"
    file.write_text(f"{HEADER}\n" + "".join(f"S1,{n % 10}.jpg,LY,p{n // 10},{AT}\n" for n in range(30_000)))
    assert import_labels(file, settings).n_new == 30_000
    with administrator.connect() as connection:
        known = connection.scalar(sa.text("SELECT reltuples FROM pg_class WHERE oid = 'bloodcell.label'::regclass"))
    assert known > 20_000


KILLED = """
import os, signal, sys
from pathlib import Path
from bloodcell.labels import LabelImport, import_labels
from bloodcell.settings import Settings
where, count = sys.argv[2].split(":")
def die(step, done, total):
    if (step, done) == (where, int(count)):
        os.kill(os.getpid(), signal.SIGKILL)
import_labels(Path(sys.argv[1]), Settings(), on_progress=die)
"""


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("where", ["Match:0", "Match:1"])  # after all rows were sent, and before the commit
@pytest.mark.slow
def test_a_killed_import_leaves_nothing_and_can_be_repeated(
    settings: Settings, tmp_path: Path, rows: Rows, where: str
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{HEADER}\n" + "".join(f"S1,{n % 10}.jpg,LY,p{n},{AT}\n" for n in range(3_000)))
    environment = {
        **os.environ,
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
    }
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file), where], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert rows("SELECT count(*) FROM bloodcell.label") == [(0,)]
    assert rows("SELECT state FROM bloodcell.run_history WHERE stage = 'labels'") == [("running",)]
    assert import_labels(file, settings).n_new == 3_000


def test_imported_labels_make_a_version_and_refresh_the_page_of_the_night(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    laboratory = Laboratory(database)
    laboratory.model()
    cells = laboratory.cells(laboratory.slide("S-1"), ["LY"] * 120, names=[f"LY_{n}.jpg" for n in range(120)])
    laboratory.call(cells, ["lymphocyte"] * 120)
    laboratory.count()
    write_night_page(settings, night_summary(database, NIGHT), {})
    page = summaries_folder(settings) / f"{NIGHT}.html"
    os.utime(page, (0, 0))
    assert "withheld" not in re.findall(r"<tbody>.*?</tbody>", page.read_text(), re.DOTALL)[0]
    labels = tmp_path / "labels.csv"
    labels.write_text("slide,file,label,labelled_by,labelled_at\nS-1,LY_0.jpg,BL,anna,2026-03-15T09:00:00Z\n")
    import_labels(labels, settings)
    versions = "SELECT version, state, causes FROM bloodcell.result_version ORDER BY 1"
    assert laboratory.rows(versions) == [(1, "machine", ["first"]), (2, "withheld", ["labels"])]
    assert "withheld" in re.findall(r"<tbody>.*?</tbody>", page.read_text(), re.DOTALL)[0]
