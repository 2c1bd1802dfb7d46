"""In the inbox, each file is read once and stays in place; a bad file does not hold up the others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.labels import InboxResult, import_inbox, label_inbox
from bloodcell.labels.label_outcomes import FILE_REASONS
from bloodcell.settings import Settings
from bloodcell.storage.runs import recorded_run
from tests.labels.conftest import AT, HEADER, Rows
from tests.laboratory import Laboratory, at_once

Write = Callable[..., Path]
LEDGER = (
    "SELECT path, outcome, split_part(reason, ':', 1), n_rows, n_labels FROM bloodcell.label_inbox ORDER BY seen_at, 1"
)


@pytest.fixture
def write(settings: Settings) -> Write:
    def put(name: str, *lines: str, header: str = HEADER, body: bytes | None = None) -> Path:
        file = settings.labels / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("".join(f"{line}\n" for line in (header, *lines)).encode() if body is None else body)
        return file

    return put


def outcomes(result: InboxResult) -> dict[str, str]:
    return {file.path: file.outcome for file in result.files}


def test_a_missing_inbox_is_empty(settings: Settings, rows: Rows) -> None:
    assert import_inbox(settings) == InboxResult((), 0, 0)
    settings.labels.mkdir(parents=True)
    assert import_inbox(settings) == InboxResult((), 0, 0)
    assert rows("SELECT count(*) FROM bloodcell.run WHERE stage = 'labels'") == [(0,)]


@pytest.mark.usefixtures("cells")
def test_good_files_are_imported_bad_ones_quarantined_and_all_stay_in_place(
    settings: Settings, write: Write, rows: Rows
) -> None:
    write("a_bad.csv", f"S1,0.jpg,LY,anna,{AT}", f"S9,0.jpg,LY,anna,{AT}")
    write("b_good.CSV", f"S1,1.jpg,LY,anna,{AT}")
    write("c_latin1.csv", f"S1,0.jpg,LY,Jürgen,{AT}", body=f"{HEADER}\nS1,0.jpg,LY,Jürgen,{AT}".encode("latin-1"))
    write("d_letter.docx", body=b"PK\x03\x04")
    write("e_good.csv", f"S1,2.jpg,LY,anna,{AT}", f"S1,1.jpg,LY,anna,{AT}")
    write(".hidden.csv", "x")
    write("~$a.csv", "x")
    write("half.csv.part", "x")
    result = import_inbox(settings)
    assert outcomes(result) == {
        "a_bad.csv": "quarantined",
        "b_good.CSV": "imported",
        "c_latin1.csv": "quarantined",
        "d_letter.docx": "quarantined",
        "e_good.csv": "imported",
    }
    assert [file.path for file in result.quarantined] == ["a_bad.csv", "c_latin1.csv", "d_letter.docx"]
    assert "1 of 2 rows: row 3: slide 'S9' is unknown" in (result.files[0].reason or "")
    assert rows(LEDGER) == [
        ("a_bad.csv", "quarantined", "cells_missing", 2, 0),
        ("b_good.CSV", "imported", None, 1, 1),
        ("c_latin1.csv", "quarantined", "wrong_encoding", 0, 0),
        ("d_letter.docx", "quarantined", "not_a_label_file", 0, 0),
        ("e_good.csv", "imported", None, 2, 1),
    ]
    assert rows("SELECT file_name FROM bloodcell.cell_label ORDER BY 1") == [("1.jpg",), ("2.jpg",)]
    assert len(list(settings.labels.iterdir())) == 8
    assert rows(
        "SELECT f.path, r.state FROM bloodcell.label_inbox f JOIN bloodcell.run_history r USING (run_id) "
        "WHERE f.path IN ('a_bad.csv', 'b_good.CSV') ORDER BY 1"
    ) == [("a_bad.csv", "failed"), ("b_good.CSV", "succeeded")]


@pytest.mark.usefixtures("cells")
def test_a_file_is_read_again_only_when_its_content_changed(settings: Settings, write: Write, rows: Rows) -> None:
    file = write("labels.csv", f"S9,0.jpg,LY,anna,{AT}")
    assert outcomes(import_inbox(settings)) == {"labels.csv": "quarantined"}
    os.utime(file)
    assert import_inbox(settings) == InboxResult((), 1, 0)
    assert import_inbox(settings).summary == "Nothing new; 0 set aside, 1 already known, 0 still being written."
    write("labels.csv", f"S1,0.jpg,LY,anna,{AT}")
    assert outcomes(import_inbox(settings)) == {"labels.csv": "imported"}
    assert import_inbox(settings) == InboxResult((), 1, 0)
    assert [row[1] for row in rows(LEDGER)] == ["quarantined", "imported"]
    assert rows("SELECT count(*) FROM bloodcell.run WHERE stage = 'labels'") == [(2,)]


def test_a_file_that_arrives_before_its_night_is_imported_after_the_ingest(
    settings: Settings, laboratory: Laboratory, write: Write, rows: Rows
) -> None:
    laboratory.file("S1/1.jpg", "quarantined", reason="truncated", detail="")
    write("early.csv", f"S1,0.jpg,LY,anna,{AT}", f"S1,1.jpg,LY,anna,{AT}")
    write("wrong.csv", f"S1,0.jpg,LY,anna,{AT}", f"S1,1.jpg,??,anna,{AT}")
    assert outcomes(import_inbox(settings)) == {"early.csv": "quarantined", "wrong.csv": "quarantined"}
    assert import_inbox(settings) == InboxResult((), 2, 0)
    cells = laboratory.cells(laboratory.slide("S1"), ["LY"] * 2, names=["0.jpg", "1.jpg"])
    assert import_inbox(settings) == InboxResult((), 2, 0)
    with recorded_run(laboratory.database, "ingest"):
        pass
    result = import_inbox(settings)
    assert (outcomes(result), result.n_known) == ({"early.csv": "imported"}, 1)
    assert import_inbox(settings) == InboxResult((), 2, 0)
    assert rows("SELECT cell_id FROM bloodcell.label ORDER BY 1") == [(cell,) for cell in cells]
    assert [row[:3] for row in rows(LEDGER)] == [
        ("early.csv", "quarantined", "cells_missing"),
        ("wrong.csv", "quarantined", "rows_refused"),
        ("early.csv", "imported", None),
    ]


@pytest.mark.usefixtures("cells")
def test_two_checks_at_once_leave_the_labels_of_one(settings: Settings, write: Write, rows: Rows) -> None:
    write("labels.csv", *(f"S1,{n % 10}.jpg,LY,p{n},{AT}" for n in range(3_000)))
    assert not at_once(3, lambda: import_inbox(settings))
    assert rows("SELECT count(*) FROM bloodcell.label") == [(3_000,)]
    assert rows("SELECT sum(n_labels) FROM bloodcell.label_inbox") == [(3_000,)]
    assert import_inbox(settings) == InboxResult((), 1, 0)


@pytest.mark.usefixtures("cells")
def test_a_file_still_being_written_waits(settings: Settings, write: Write) -> None:
    patient = settings.model_copy(update={"settle_s": 3600})
    write("labels.csv", f"S1,0.jpg,LY,anna,{AT}")
    write("anna/SNE/0.jpg", body=b"x")
    assert import_inbox(patient) == InboxResult((), 0, 2)
    (settings.labels / "ben").mkdir()
    result = import_inbox(settings)
    assert (len(result.files), result.n_waiting) == (2, 1)  # a folder that somebody is about to fill


def test_a_file_that_changes_while_it_is_read_waits_and_is_not_imported(
    settings: Settings, cells: list[int], write: Write, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("labels.csv", *(f"S1,{n}.jpg,LY,anna,{AT}" for n in range(10)))
    digest = label_inbox._digest

    def and_then_written_to(path: Path) -> str:
        found = digest(path)
        with file.open("a") as more:
            more.write(f"S1,0.jpg,LY,ben,{AT}\n")
        return found

    monkeypatch.setattr(label_inbox, "_digest", and_then_written_to)
    assert import_inbox(settings) == InboxResult((), 0, 1)
    assert rows("SELECT count(*) FROM bloodcell.label") == [(0,)]
    monkeypatch.undo()
    assert import_inbox(settings).files[0].n_labels == 11


@pytest.mark.usefixtures("cells")
def test_links_pipes_and_huge_files_are_quarantined_unread(
    settings: Settings, write: Write, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_inbox, "MAX_FILE_BYTES", 1_000)
    outside = tmp_path / "outside.csv"
    outside.write_text(f"{HEADER}\nS1,0.jpg,LY,anna,{AT}\n")
    write("huge.csv", *(f"S1,0.jpg,LY,anna,{AT}" for _ in range(40)))
    (settings.labels / "link.csv").symlink_to(outside)
    (settings.labels / "folder").symlink_to(tmp_path)
    os.mkfifo(settings.labels / "pipe.csv")
    Path(os.fsdecode(os.fsencode(settings.labels) + b"/caf\xe9.csv")).write_text("x")
    Path(os.fsdecode(os.fsencode(settings.labels) + b"/Ren\xe9")).mkdir()
    import_inbox(settings)
    assert {row[0]: row[2] for row in rows(LEDGER)} == {
        "huge.csv": "too_many_bytes",
        "link.csv": "link",
        "folder": "link",
        "pipe.csv": "not_a_regular_file",
        "caf\\xe9.csv": "name_not_utf8",
        "Ren\\xe9": "name_not_utf8",
    }
    assert rows("SELECT count(*) FROM bloodcell.label") == [(0,)]
    assert import_inbox(settings) == InboxResult((), 6, 0)


def test_a_folder_named_for_a_person_is_imported_again_after_an_addition(
    laboratory: Laboratory, settings: Settings, write: Write, rows: Rows
) -> None:
    bodies = [f"image {n}".encode() for n in range(3)]
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    laboratory.cells(laboratory.slide("S1"), ["LY"] * 3, digests, ["0.jpg", "1.jpg", "2.jpg"])
    write("Anna Weiß/SNE/0.jpg", body=bodies[0])
    write("Anna Weiß/bl/1.jpg", body=bodies[1])
    assert outcomes(import_inbox(settings)) == {"Anna Weiß": "imported"}
    assert import_inbox(settings) == InboxResult((), 1, 0)
    write("Anna Weiß/MO/2.jpg", body=bodies[2])
    (again,) = import_inbox(settings).files
    assert (again.n_rows, again.n_labels) == (3, 1)
    assert rows("SELECT DISTINCT labelled_by FROM bloodcell.label") == [("Anna Weiß",)]


def test_folders_without_a_person_are_quarantined(settings: Settings, write: Write) -> None:
    write("neutrophil/0.jpg", body=b"x")
    write(f"{'a' * 201}/SNE/0.jpg", body=b"x")
    result = import_inbox(settings)
    assert [(file.reason or "").split(":")[0] for file in result.quarantined] == ["not_a_label_file"] * 2
    assert "named for the person" in (result.files[1].reason or "")


@pytest.mark.usefixtures("cells")
def test_a_later_try_of_a_dag_run_reports_what_the_first_try_quarantined(settings: Settings, write: Write) -> None:
    bad = write("bad.csv", f"S9,0.jpg,LY,anna,{AT}")
    first = import_inbox(settings, airflow_run="scheduled__1")
    assert import_inbox(settings, airflow_run="scheduled__1") == first
    assert import_inbox(settings, airflow_run="scheduled__2") == InboxResult((), 1, 0)
    bad.unlink()
    assert import_inbox(settings, airflow_run="scheduled__1") == InboxResult((), 0, 0)


def test_an_inbox_that_is_not_a_folder_is_an_error_for_the_operator(settings: Settings) -> None:
    settings.labels.parent.mkdir(parents=True)
    settings.labels.touch()
    with pytest.raises(ConfigurationError, match="BLOODCELL_LABELS_DIR"):
        import_inbox(settings)


def test_reasons_name_the_next_step() -> None:
    assert all(text.endswith(".") and len(text) > 20 for text in FILE_REASONS.values())
