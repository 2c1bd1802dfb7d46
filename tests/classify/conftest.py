"""A night of small cells in the database, and two registered models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.ingest import ingest_night
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.promotion import promote
from bloodcell.registry.registered_models import register
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from tests.ingest.night import NightFolder
from tests.small_cells import draw


@pytest.fixture
def serving(settings: Settings, database: Database, tuned_bundle: Bundle, svm_bundle: Bundle) -> tuple[str, str]:
    """Model ids of the champion (vgg16) and the challenger (vgg16_svm)."""
    store = Store.of(settings)
    with database.begin() as connection:
        register(connection, store, tuned_bundle, by="test")
        register(connection, store, svm_bundle, by="test")
        promote(connection, store, tuned_bundle.model_id, by="test", reason="test", evidence={})
    return tuned_bundle.model_id, svm_bundle.model_id


def fill_night(
    settings: Settings,
    *,
    slides: int = 3,
    cells_each: int = 20,
    seed: int = 0,
    before_ingest: Callable[[Path], None] = lambda night: None,
) -> Path:
    """Writes and ingests a night of small drawn cells."""
    night = NightFolder(settings.drops)
    for slide in range(slides):
        for number in range(cells_each):
            rng = np.random.default_rng((seed, slide, number))
            cell_class = CELL_CLASSES[int(rng.integers(len(CELL_CLASSES)))]
            path = night.path / f"S{slide}" / f"LY_{number:08d}.png"
            path.parent.mkdir(exist_ok=True)
            draw(cell_class, rng).save(path)
    before_ingest(night.path)
    night.complete()
    ingest_night(night.path, settings)
    return night.path
