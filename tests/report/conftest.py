"""A laboratory with a champion, and a store of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from tests.laboratory import Laboratory


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model()
    return laboratory


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")
