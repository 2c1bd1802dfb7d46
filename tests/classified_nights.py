"""Nights of small drawn cells, classified by a champion whose bundle has a training reference."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image, ImageFilter

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.classify import classify_shard, plan_shards
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.ingest import ingest_night
from bloodcell.registry.bundle import Bundle, write_bundle
from bloodcell.registry.promotion import promote
from bloodcell.registry.registered_models import register
from bloodcell.registry.training_reference import REFERENCE, TrainingReference, reference_of, write_reference
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.decoding import resized
from bloodcell.storage.store import Store
from tests.ingest.night import NIGHT, NightFolder
from tests.small_cells import draw


def with_reference(bundle: Bundle, out: Path, reference: TrainingReference | None) -> Bundle:
    """Returns a twin of a bundle with another reference, or with none, as releases before references wrote it."""
    work = out / "work"
    shutil.copytree(bundle.folder, work)
    (work / "bundle.json").unlink()
    (work / REFERENCE).unlink()
    if reference is not None:
        write_reference(work / REFERENCE, reference)
    return write_bundle(out / "bundles", bundle.manifest, {path.name: path for path in work.iterdir()})


def crown(settings: Settings, database: Database, bundle: Bundle) -> str:
    """Registers a bundle and makes it champion; returns its model id."""
    store = Store.of(settings)
    with database.begin() as connection:
        register(connection, store, bundle, by="test")
        promote(connection, store, bundle.model_id, by="test", reason=f"test {bundle.model_id}", evidence={})
    return bundle.model_id


def classified_night(
    settings: Settings,
    night: date = NIGHT,
    *,
    slides: int = 8,
    blur_px: float = 0,
    classes: tuple[str, ...] = CELL_CLASSES,
    n_striped: int = 0,
) -> None:
    """Ingests and classifies a night with ten drawn cells on each slide, of the given classes in turn.

    The first `n_striped` images of the first slide show no cells but stripes, which no model knows.
    """
    folder = NightFolder(settings.drops, night)
    for slide in range(slides):
        for number in range(10):
            rng = np.random.default_rng((night.toordinal(), slide, number))
            cell = draw(classes[(slide * 10 + number) % len(classes)], rng)
            if slide == 0 and number < n_striped:
                cell = Image.fromarray(
                    np.tile(np.array([[[255, 0, 0]], [[0, 255, 0]]], np.uint8), (20, 40 + number, 1))
                )
            path = folder.path / f"{night:%d}-{slide}" / f"LY_{number:08d}.png"
            path.parent.mkdir(exist_ok=True)
            (cell.filter(ImageFilter.GaussianBlur(blur_px)) if blur_px else cell).save(path)
    folder.complete()
    ingest_night(folder.path, settings)
    for shard in plan_shards(settings, night=night):
        classify_shard(shard, settings)


@pytest.fixture
def champion(settings: Settings, database: Database, watched_bundle: Bundle) -> str:
    """Model id of the champion, an SVM on drawn cells."""
    return crown(settings, database, watched_bundle)


def rows(database: Database, statement: str, **values: object) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), values)]


def called_cells(database: Database, model_id: str) -> list[tuple[int, str]]:
    """Returns the cells that a model called one of the classes, each with the class, in order."""
    found = rows(
        database,
        "SELECT cell_id, called_class FROM bloodcell.cell_call WHERE model_id = :m AND called_class <> 'unclassified' "
        "ORDER BY cell_id",
        m=model_id,
    )
    return [(int(str(cell)), str(called)) for cell, called in found]


@pytest.fixture(scope="session")
def watched_bundle(svm_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The SVM bundle with a reference of 160 drawn cells, mixed as in the laboratory's nights: evenly."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(len(CELL_CLASSES)), 20)
    cells = np.stack([np.asarray(resized(draw(CELL_CLASSES[label], rng), *svm_bundle.input_size)) for label in labels])
    output = MergedNetwork([svm_bundle])({svm_bundle.input_size: cells})[svm_bundle.model_id]
    reference = reference_of(output.embedding, output.probabilities, output.novelty, labels, follows_mix=True)
    return with_reference(svm_bundle, tmp_path_factory.mktemp("watched"), reference)
