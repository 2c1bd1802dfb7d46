"""Every command on a data folder finds the Airflow that `bloodcell up` serves for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.served_address import served_address, up_lock
from bloodcell.service.doctor import examine
from bloodcell.service.up import _only_one
from bloodcell.settings import Settings

SERVED = "http://127.0.0.1:9"


@pytest.fixture
def served(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, airflow_url=SERVED)


def test_the_address_is_known_while_up_runs_and_a_second_up_names_it(served: Settings) -> None:
    folder = served.data_dir
    assert Settings(data_dir=folder).airflow_url == "http://127.0.0.1:8080"
    with _only_one(served):
        assert served_address(folder) == SERVED
        assert Settings(data_dir=folder).airflow_url == SERVED
        assert Settings(data_dir=folder, airflow_url="http://other:1").airflow_url == "http://other:1"
        with pytest.raises(ConfigurationError, match=f"already running on {folder}, at {SERVED}"), _only_one(served):
            pass
        assert served_address(folder) == SERVED
    assert served_address(folder) is None


@pytest.mark.parametrize("content", ["", "4711", "one http://127.0.0.1:9", f"{2**70} {SERVED}"])
def test_an_unreadable_lock_names_no_address(tmp_path: Path, content: str) -> None:
    up_lock(tmp_path).write_text(content)
    assert served_address(tmp_path) is None


def test_a_lock_that_was_left_by_a_killed_up_names_no_address(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    up_lock(tmp_path).write_text(f"{ended.pid} {SERVED}\n")
    assert served_address(tmp_path) is None


def test_the_doctor_does_not_advise_to_start_what_runs(served: Settings) -> None:
    def next_step(settings: Settings) -> str:
        return next(finding.next_step for finding in examine(settings) if finding.check == "airflow")

    (served.data_dir / "airflow").mkdir()
    (served.data_dir / "airflow" / "passwords.json").write_text('{"admin": "secret"}')
    elsewhere = served.model_copy(update={"airflow_url": "http://127.0.0.1:10"})
    assert next_step(elsewhere) == "Next: bloodcell up"
    with _only_one(served):
        assert next_step(elsewhere).startswith(f"`bloodcell up` runs at {SERVED}: unset BLOODCELL_AIRFLOW_URL")
        assert "still starting" in next_step(served)
