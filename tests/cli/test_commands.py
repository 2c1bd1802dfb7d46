"""The command line as people use it: its output and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from bloodcell.cli import app
from bloodcell.cli.output import NOTHING_TO_DO, retraining_status
from bloodcell.retraining import TrainingState
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import embedded_psql
from tests.conftest import Command
from tests.ingest.night import NightFolder
from tests.laboratory import Laboratory


@pytest.fixture
def variables(settings: Settings) -> dict[str, str]:
    return {
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
        "BLOODCELL_SETTLE_S": "0",
        "COLUMNS": "120",
    }


@pytest.fixture
def bloodcell(variables: dict[str, str]) -> Command:
    """A function that runs `bloodcell` in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BLOODCELL_")} | variables

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bloodcell", *arguments]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture
def bloodcell_here(variables: dict[str, str], main_here: Command) -> Command:
    """The same in the process of the tests."""
    return lambda *arguments, **more: main_here(*arguments, **variables | more)


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    return Laboratory(database)


def test_help_lists_the_commands(bloodcell: Command) -> None:
    top = bloodcell("--help")
    assert top.returncode == 0
    commands = ["demo", "up", "watch", "doctor", "ingest", "classify", "differential", "report", "train", "evaluate"]
    for command in (*commands, "models", "db", "drop"):
        assert command in top.stdout
    models = CliRunner().invoke(app, ["models", "--help"])
    assert models.exit_code == 0
    for command in ("promote", "rollback"):
        assert command in models.stdout


def test_every_command_has_help() -> None:
    def paths(command: Any, *words: str) -> list[tuple[str, ...]]:
        below = getattr(command, "commands", {}).items()
        return [words, *(path for name, each in below for path in paths(each, *words, name))]

    every = paths(typer.main.get_command(app))
    assert len(every) > 30
    for path in every:
        shown = CliRunner().invoke(app, [*path, "--help"], prog_name="bloodcell")
        assert shown.exit_code == 0, path
        assert " ".join(("Usage: bloodcell", *path)) in shown.stdout


def test_psql_on_a_database_without_a_schema_says_what_to_do(bloodcell_here: Command, empty_database_url: str) -> None:
    refused = bloodcell_here("db", "psql", "-c", "TABLE night_summary", BLOODCELL_DATABASE_URL=empty_database_url)
    assert refused.returncode == 1
    assert "has no bloodcell schema" in refused.stderr
    assert "Next: bloodcell db upgrade" in refused.stderr
    assert bloodcell_here("db", "psql", "-c", "TABLE night_summary").returncode == 0


def test_wrong_usage_is_exit_status_2(bloodcell: Command) -> None:
    assert bloodcell("nonsense").returncode == 2
    refused = bloodcell("classify")
    assert refused.returncode == 2
    assert "--night" in refused.stderr


def test_wrong_setting_is_named(bloodcell_here: Command) -> None:
    refused = bloodcell_here("models", "list", BLOODCELL_DROP_PATTERN="(")
    assert refused.returncode == 2
    assert "BLOODCELL_DROP_PATTERN" in refused.stderr


def test_setting_that_is_empty_is_named(bloodcell_here: Command) -> None:
    refused = bloodcell_here("models", "list", BLOODCELL_DROPS_DIR="")
    assert refused.returncode == 2
    assert "BLOODCELL_DROPS_DIR" in refused.stderr and "unset it" in refused.stderr


def test_data_folder_that_cannot_be_made_is_one_message(bloodcell_here: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (["up"], ["doctor"], ["demo"]):
        refused = bloodcell_here(*arguments, BLOODCELL_DATA_DIR=str(tmp_path / "file" / "data"))
        assert refused.returncode == 1, arguments
        assert "Traceback" not in refused.stderr, arguments
    assert "BLOODCELL_DATA_DIR" in refused.stderr


def test_psql_understands_the_url(bloodcell_here: Command) -> None:
    url = bloodcell_here("db", "url").stdout.strip()
    asked = subprocess.run(
        [embedded_psql(), url, "-XAtc", "SELECT current_user"], capture_output=True, text=True, check=True
    )
    assert asked.stdout == f"{sa.make_url(url).username}\n"


def test_the_demo_approves_a_model_only_if_a_person_says_so(bloodcell_here: Command) -> None:
    for arguments, needed in ((("--yes",), "--retrain"), (("--retrain",), "--yes")):
        refused = bloodcell_here("demo", *arguments)
        assert refused.returncode == 2
        assert needed in refused.stderr


def test_train_checks_the_database_before_it_trains(bloodcell_here: Command, empty_database_url: str) -> None:
    refused = bloodcell_here(
        "train", "--variant", "vgg16_svm", "--images", "nowhere", BLOODCELL_DATABASE_URL=empty_database_url
    )
    assert refused.returncode == 1
    assert "bloodcell db upgrade" in refused.stderr


def test_failed_work_is_exit_status_1_with_one_message(bloodcell_here: Command, tmp_path: Path) -> None:
    refused = bloodcell_here("ingest", str(tmp_path / "2026-01-01"))
    assert refused.returncode == 1
    assert "cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_ingest_prints_one_json_document(bloodcell: Command, settings: Settings) -> None:
    night = NightFolder(settings.drops)
    night.cell("S1", 1)
    night.write("S1/SNE_2.png", b"")
    night.complete()
    done = bloodcell("ingest", str(night.path), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["n_cells"], document["n_quarantined"], document["night"]) == (1, 1, "2026-11-21")
    shown = bloodcell("ingest", str(night.path))
    assert "quarantine_report" in shown.stdout
    assert "bloodcell classify --night 2026-11-21" in shown.stdout


def test_waiting_slides_are_exit_status_1(bloodcell_here: Command, settings: Settings) -> None:
    NightFolder(settings.drops).cell("S1", 1)
    left = bloodcell_here("ingest", str(settings.drops / "2026-11-21"), BLOODCELL_SETTLE_S="3600")
    assert left.returncode == 1
    assert "still being written" in left.stdout


def test_classify_with_nothing_to_classify_is_exit_status_3(bloodcell: Command, laboratory: Laboratory) -> None:
    laboratory.model()
    skipped = bloodcell("classify", "--pending")
    assert skipped.returncode == 3, skipped.stderr
    assert "0 cells called" in skipped.stdout


def test_classify_without_a_champion_says_what_to_do(bloodcell_here: Command) -> None:
    refused = bloodcell_here("classify", "--pending")
    assert refused.returncode == 1
    assert "bloodcell models promote" in refused.stderr


def test_the_next_step_for_an_empty_database_is_its_upgrade(bloodcell_here: Command, empty_database_url: str) -> None:
    refused = bloodcell_here("models", "list", BLOODCELL_DATABASE_URL=empty_database_url)
    assert refused.returncode == 1
    assert "bloodcell db upgrade" in refused.stderr
    assert bloodcell_here("db", "upgrade", BLOODCELL_DATABASE_URL=empty_database_url).returncode == 0
    status = bloodcell_here("db", "status", "--json", BLOODCELL_DATABASE_URL=empty_database_url)
    assert status.returncode == 0
    assert json.loads(status.stdout)["rows"]["cell"] == 0


def test_the_exit_status_says_how_a_retraining_ended() -> None:
    states = {state: retraining_status(state) for state in TrainingState}
    assert {state for state, status in states.items() if status == NOTHING_TO_DO} == {TrainingState.SKIPPED}
    assert {state for state, status in states.items() if status == 1} == {"refused", "failed", "expired"}
    assert {state for state, status in states.items() if status == 0} == {"running", "promoted", "rejected"}
