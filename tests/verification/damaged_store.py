"""A laboratory with a stored night, a small model and a validation page, and ways to damage what is stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import sqlalchemy as sa

from bloodcell.ingest import ingest_night
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from bloodcell.verification import StoreVerification, verify_store
from tests.ingest.night import NightFolder

N_IMAGES = 6
N_OBJECTS = N_IMAGES + 2 + 1
DATASET = "d5" * 32


@dataclass(frozen=True)
class DamagedStore:
    """A laboratory's settings and database, and the file system of its store."""

    settings: Settings
    database: Database

    @property
    def store(self) -> Store:
        return Store.of(self.settings)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        fs = self.store._fs
        fs.invalidate_cache()
        return fs

    def path(self, place: str) -> str:
        return f"{self.store._root}/{place}"

    def verified(self, *, repair: bool = False, others: tuple[str, ...] = ()) -> StoreVerification:
        return verify_store(self.settings, repair=repair, others=others)

    def objects(self) -> dict[str, bytes]:
        """Returns the content of the store by place."""
        found = self.fs.find(self.store._root)
        return {path.removeprefix(f"{self.store._root}/"): bytes(self.fs.cat_file(path)) for path in found}

    def image(self, file_name: str) -> str:
        """Returns the place of the image of a cell."""
        query = sa.text("SELECT sha256 FROM bloodcell.cell WHERE file_name = :name")
        with self.database.connect() as connection:
            sha256 = str(connection.scalar(query, {"name": file_name}))
        return f"images/{sha256[:2]}/{sha256}"

    def damage(self, place: str, problem: str) -> None:
        body = bytes(self.fs.cat_file(self.path(place)))
        if problem == "missing":
            self.fs.rm(self.path(place))
        else:
            changed = body[:-1] + bytes([body[-1] ^ 1]) if problem == "altered" else body[: len(body) // 2]
            self.fs.pipe_file(self.path(place), changed)


def filled(settings: Settings, database: Database) -> DamagedStore:
    """Returns a laboratory with six cells on two slides, a model of two files, and a page about it."""
    night = NightFolder(settings.drops)
    for number in range(N_IMAGES):
        night.cell(f"S{number % 2}", number)
    ingest_night(night.path, settings)
    laboratory = DamagedStore(settings, database)
    _store_model(laboratory, settings.data_dir / "source")
    return laboratory


def _store_model(laboratory: DamagedStore, source: Path) -> None:
    source.mkdir()
    body = b"a model" * 20_000
    manifest = {"files": {"model.keras": hashlib.sha256(body).hexdigest()}, "temperature": 1e-07}
    text = (json.dumps(manifest, sort_keys=True, indent=2) + "\n").encode()
    model_id = hashlib.sha256(text).hexdigest()
    (source / "model.keras").write_bytes(body)
    (source / "bundle.json").write_bytes(text)
    laboratory.store.put_bundle(source, model_id)
    report = laboratory.store.put_report(model_id, b"<p>a page</p>")
    model = {
        "model_id": model_id, "variant": "vgg16", "confidence_threshold": 0.6, "novelty_threshold": 12.5,
        "manifest": manifest, "created_at": datetime(2026, 3, 1, tzinfo=UTC), "registered_by": "tests",
    }  # fmt: skip
    with laboratory.database.begin() as connection:
        run_id = connection.scalar(sa.text("SELECT run_id FROM bloodcell.run LIMIT 1"))
        connection.execute(tables.model.insert().values(model))
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.dataset (dataset_digest, n_training, n_validation, n_holdout, n_out_of_scope, "
                "until_label_id, left_out, run_id) VALUES (:digest, 1, 1, 1, 0, 0, '{}', :run_id)"
            ),
            {"digest": DATASET, "run_id": run_id},
        )
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.validation (validation_id, model_id, dataset_digest, passed, gates, report, "
                "run_id) VALUES (gen_random_uuid(), :model_id, :digest, true, '[]', :report, :run_id)"
            ),
            {"model_id": model_id, "digest": DATASET, "report": report, "run_id": run_id},
        )
