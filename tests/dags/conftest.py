"""An Airflow home with its tables; they take ten seconds to make, so that is done once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dags.reading import airflow_environment


@pytest.fixture(scope="session")
def airflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of an Airflow whose tables were just made."""
    home = tmp_path_factory.mktemp("airflow")
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    migrated = subprocess.run(migrate, env=airflow_environment(home), capture_output=True, text=True, check=False)
    assert migrated.returncode == 0, migrated.stderr
    return home / "airflow.db"


@pytest.fixture
def airflow_home(airflow_tables: Path, tmp_path: Path) -> Path:
    """A fresh Airflow home with its tables."""
    home = tmp_path / "airflow"
    home.mkdir()
    shutil.copy(airflow_tables, home)
    return home
