"""`bloodcell drop make`: what it writes, prints and refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bloodcell.cli.drop import app
from bloodcell.errors import ConfigurationError


def test_make_writes_a_night_and_says_what_to_run_next(tmp_path: Path) -> None:
    arguments = ["make", str(tmp_path), "--night", "2026-11-21", "--slides", "2", "--cells", "3", "--seed", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "2026-11-21"
    assert (folder / ".complete").exists()
    assert len(list(folder.glob("*/*.jpg"))) == 6
    assert result.stdout.splitlines()[-1] == f"Next: bloodcell ingest {folder}"
    assert "eosinophilia" in result.stdout


def test_make_labelled_writes_a_training_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["make", str(tmp_path / "images"), "--labelled", "1"])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "images").glob("*/*.jpg"))) == 8
    assert f"--images {tmp_path / 'images'}" in result.stdout


def test_make_refuses_an_existing_night(tmp_path: Path) -> None:
    (tmp_path / "2026-11-21" / "S1").mkdir(parents=True)
    result = CliRunner().invoke(app, ["make", str(tmp_path), "--night", "2026-11-21"])
    assert isinstance(result.exception, ConfigurationError)


@pytest.mark.parametrize("wrong", [["--night", "21.11.2026"], ["--slides", "0"], ["--seed", "-1"], ["--labelled", "0"]])
def test_wrong_usage_ends_with_status_2_and_writes_nothing(tmp_path: Path, wrong: list[str]) -> None:
    assert CliRunner().invoke(app, ["make", str(tmp_path), *wrong]).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_the_command_loads_nothing_heavy_before_it_runs() -> None:
    code = "import sys, bloodcell.cli.drop; print({'numpy', 'PIL', 'bloodcell.drawing'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
