"""`bloodcell labels` on the command line: output, exit status, one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bloodcell.cli import app
from bloodcell.errors import ConfigurationError, UnusableFileError
from bloodcell.settings import Settings
from tests.labels.conftest import AT, HEADER

Command = Callable[..., Result]


@pytest.fixture
def bloodcell(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", str(settings.plain_database_url))
    monkeypatch.setenv("BLOODCELL_SETTLE_S", "0")
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(app, ["labels", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(
        f"{HEADER},remark\nS1,0.jpg,SNE,anna,{AT},x\nS1,1.jpg,[red]BL,anna,{AT},x\nS9,1.jpg,BL,anna,{AT},x\n"
    )
    return path


@pytest.mark.usefixtures("cells")
def test_refused_rows_are_shown_with_their_numbers_and_exit_status_1(bloodcell: Command, file: Path) -> None:
    refused = bloodcell("import", file)
    assert refused.exit_code == 1
    assert "Row 3: label: expected a class" in refused.stdout
    assert "'[red]BL'" in refused.stdout
    assert "Row 4: slide 'S9' is unknown" in refused.stdout
    assert "Ignored columns: remark" in refused.stdout
    assert "--partial" in refused.stdout
    document = json.loads(bloodcell("import", file, "--json").stdout)
    assert (document["is_taken"], document["n_new"], document["n_refused"]) == (False, 0, 2)
    partly = bloodcell("import", file, "--partial", "--json")
    assert partly.exit_code == 1
    document = json.loads(partly.stdout)
    assert (document["is_taken"], document["n_new"], document["errors"][0]["row"]) == (True, 1, 3)


@pytest.mark.usefixtures("cells")
def test_import_status_and_export_work_one_after_another(bloodcell: Command, tmp_path: Path) -> None:
    assert "There are no labels" in bloodcell("status").stdout
    file = tmp_path / "labels.csv"
    file.write_text(
        "slide,file,label,labelled_at,labelled_by\n"
        f"S1,0.jpg,SNE,{AT},\nS1,1.jpg,BL,{AT},\nS1,2.jpg,LY,{AT},\nS1,2.jpg,MO,{AT},[/] ben\n"
    )
    done = bloodcell("import", file, "--by", "anna")
    assert done.exit_code == 0, done.output
    assert "1 of these cells are contested" in done.stdout
    status = bloodcell("status")
    assert status.exit_code == 0, status.output
    for said in ("out_of_scope", "SNE", "[/] ben", "not yet", "4 labels of 3 cells; 1 contested; 1 confirmed"):
        assert said in status.stdout
    assert json.loads(bloodcell("status", "--json").stdout)["n_contested"] == 1
    assert "4 labels written to" in bloodcell("export", tmp_path / "out.csv").stdout
    again = bloodcell("import", tmp_path / "out.csv", "--json")
    assert (again.exit_code, json.loads(again.stdout)["n_known"]) == (0, 4)


def test_a_missing_file_is_an_error_for_the_operator(bloodcell: Command, tmp_path: Path) -> None:
    assert isinstance(bloodcell("import", tmp_path / "none.csv").exception, ConfigurationError)
    (tmp_path / "letter.csv").write_text("Dear Sir or Madam,\n")
    assert isinstance(bloodcell("import", tmp_path / "letter.csv").exception, UnusableFileError)


@pytest.mark.usefixtures("cells")
def test_the_inbox_can_be_imported_by_hand(bloodcell: Command, settings: Settings) -> None:
    empty = bloodcell("inbox")
    assert (empty.exit_code, "0 files read" in empty.stdout) == (3, True)
    settings.labels.mkdir(parents=True)
    (settings.labels / "good.csv").write_text(f"{HEADER}\nS1,0.jpg,SNE,anna,{AT}\n")
    assert bloodcell("inbox").exit_code == 0
    (settings.labels / "[bad].csv").write_text(f"{HEADER}\nS9,0.jpg,SNE,anna,{AT}\n")
    shown = bloodcell("inbox")
    assert shown.exit_code == 1
    assert "[bad].csv" in shown.stdout
    assert "1 file read, 1 already known" in shown.stdout
    known = bloodcell("inbox", "--json")
    assert known.exit_code == 3
    assert json.loads(known.stdout) == {"files": [], "n_known": 2, "n_waiting": 0}
