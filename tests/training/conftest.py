"""Training needs no database."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloodcell.settings import Settings
from tests.small_cells import model_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a fresh data folder and no database."""
    return model_settings(tmp_path / "data")
