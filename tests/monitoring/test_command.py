"""`bloodcell models check` on a real database."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from bloodcell.cli import app
from bloodcell.errors import ConfigurationError
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.classified_nights import called_cells, classified_night
from tests.laboratory import Laboratory


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", str(settings.plain_database_url))
    monkeypatch.setenv("BLOODCELL_CHECK_MIN_CELLS", str(settings.check_min_cells))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.usefixtures("environment")
def test_a_check_prints_one_json_document_or_a_table(settings: Settings, database: Database, champion: str) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    Laboratory(database).label([cell for cell, _ in called], [cell_class for _, cell_class in called], blind=True)
    result = CliRunner().invoke(app, ["models", "check", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["model_id"] == champion
    by_kind = {check["kind"]: check for check in document["checks"] if check["cell_class"] is None}
    assert by_kind["agreement"]["measured"] == 1
    assert by_kind["embedding"]["since_night"] == "2026-11-21"

    again = CliRunner().invoke(app, ["models", "check"])
    assert again.exit_code == 3, again.output
    assert "agreement" in again.stdout
    assert "Not judged: 0 blind-read cells of the random samples with a call, 40 are needed" in again.stdout


@pytest.mark.usefixtures("environment")
def test_a_crossed_threshold_is_exit_status_1_with_the_reason(
    settings: Settings, database: Database, champion: str
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    Laboratory(database).label([cell for cell, _ in called], ["basophil"] * len(called), blind=True)
    result = CliRunner().invoke(app, ["models", "check"])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert (
        "Even the upper end of the interval is below the threshold of 90.0 % (BLOODCELL_CHECK_MIN_AGREEMENT)"
        in result.stdout
    )


@pytest.mark.usefixtures("environment", "database")
def test_without_a_champion_the_command_says_what_to_do() -> None:
    result = CliRunner().invoke(app, ["models", "check"])
    assert isinstance(result.exception, ConfigurationError)
    assert "bloodcell models promote" in str(result.exception)
