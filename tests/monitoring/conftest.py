"""Settings under which a small night is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloodcell.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Returns settings with low minimum numbers of cells."""
    return Settings(
        data_dir=tmp_path / "data", database_url=database_url, settle_s=0, batch_cells=16, reader_threads=2,
        check_min_cells=40, sample_cells=10_000,
    )  # fmt: skip
