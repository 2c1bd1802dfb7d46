"""`bloodcell differential` and `bloodcell report` on a real database."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bloodcell.cli import app
from bloodcell.errors import UnknownRecordError
from bloodcell.results import write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from tests.laboratory import CHAMPION, Laboratory


@pytest.fixture
def laboratory(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    """A reported slide of one lymphocyte, and the environment that finds its database."""
    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", str(settings.plain_database_url))
    body = io.BytesIO()
    Image.new("RGB", (150, 151), (90, 60, 140)).save(body, "PNG")
    digest = hashlib.sha256(body.getvalue()).hexdigest()
    Store.of(settings).put_image(digest, body.getvalue())
    laboratory = Laboratory(database)
    laboratory.model()
    laboratory.call(laboratory.cells(laboratory.slide("S-1"), ["LY"], [digest]), ["lymphocyte"])
    assert write_due_results(settings) == ["S-1"]
    return laboratory


def said(result: Result) -> str:
    """What a command wrote, without the line breaks of a narrow terminal."""
    return " ".join(result.stdout.split())


@pytest.mark.usefixtures("laboratory")
def test_differential_is_shown_as_a_table_and_as_one_json_document() -> None:
    table = CliRunner().invoke(app, ["differential", "S-1"])
    assert table.exit_code == 0
    assert "Lymphocytes" in table.stdout
    assert "WITHHELD, percentages are not to be used before a person has looked: too few leucocytes" in said(table)
    assert "Insufficient count: 1 leucocyte, fewer than 100." in said(table)
    document = json.loads(CliRunner().invoke(app, ["differential", "S-1", "--model", CHAMPION[:8], "--json"]).stdout)
    assert document["model"]["model_id"] == CHAMPION
    assert (document["leucocytes"][3]["class"], document["leucocytes"][3]["n"]) == ("lymphocyte", 1)
    assert (document["version"]["state"], document["version"]["withheld_for"]) == ("withheld", ["few_leucocytes"])
    assert document["waiting_version"] is None


@pytest.mark.usefixtures("laboratory")
def test_report_is_written_and_standard_output_stays_empty(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", "S-1", "--html", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "data:image/jpeg;base64," in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("laboratory")
@pytest.mark.parametrize("arguments", [["differential", "S-9"], ["report", "S-9", "--html", "report.html"]])
def test_unknown_slide_is_an_error_for_the_operator(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UnknownRecordError)
    assert not Path("report.html").exists()
