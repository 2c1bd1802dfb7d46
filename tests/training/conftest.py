"""The model room needs no database."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloodcell.settings import Settings
from tests.small_cells import model_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings on a fresh data folder; nothing here needs a database."""
    return model_settings(tmp_path / "data")
