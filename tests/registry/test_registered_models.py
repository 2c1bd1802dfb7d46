"""What the database and the store hold about a registered model."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from bloodcell.errors import BundleError, StoreUnavailableError, UnknownRecordError
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.registered_models import (
    find_model,
    open_registered,
    register,
    registered_models,
)
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store.of(settings)


def test_a_bundle_registered_twice_is_stored_whole_and_is_one_model(
    database: Database, store: Store, svm_bundle: Bundle
) -> None:
    for _ in range(2):
        with database.begin() as connection:
            register(connection, store, svm_bundle, by="anna")
    with database.connect() as connection:
        [model] = registered_models(connection)
    assert (model.model_id, model.variant, model.role, model.registered_by) == (
        svm_bundle.model_id,
        "vgg16_svm",
        "idle",
        "anna",
    )
    assert open_registered(store, model.model_id).manifest == svm_bundle.manifest


def test_registering_again_repairs_an_altered_or_incomplete_bundle(
    database: Database, store: Store, svm_bundle: Bundle
) -> None:
    with database.begin() as connection:
        register(connection, store, svm_bundle, by="anna")
        folder = store.bundle_folder(svm_bundle.model_id)
        (folder / "model.keras").write_bytes(b"altered")
        (folder / "bundle.json").unlink()
        (folder / ".model.keras.0123.part").touch()
        with pytest.raises(BundleError):
            open_registered(store, svm_bundle.model_id)
        register(connection, store, svm_bundle, by="anna")
    assert open_registered(store, svm_bundle.model_id).manifest == svm_bundle.manifest
    assert [path for path in folder.parent.iterdir() if path.name != svm_bundle.model_id] == []


def test_an_unavailable_store_is_not_reported_as_a_broken_bundle(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="is unavailable"):
        open_registered(Store(str(tmp_path / "unmounted"), tmp_path / "cache"), "0" * 64)


def test_verifying_reads_the_store_and_not_a_copy_fetched_earlier(
    database: Database, svm_bundle: Bundle, tmp_path: Path
) -> None:
    remote = Store(f"memory://{tmp_path.name}", tmp_path / "cache")
    with database.begin() as connection:
        register(connection, remote, svm_bundle, by="anna")
    open_registered(remote, svm_bundle.model_id)
    files = fsspec.filesystem("memory")
    files.pipe_file(f"/{tmp_path.name}/models/{svm_bundle.model_id}/model.keras", b"altered")
    assert open_registered(remote, svm_bundle.model_id).model_id == svm_bundle.model_id
    with pytest.raises(BundleError, match="altered"):
        open_registered(remote, svm_bundle.model_id, fresh=True)


def test_a_model_is_found_by_the_beginning_of_its_id_if_no_other_id_begins_alike(
    database: Database, store: Store, svm_bundle: Bundle, tuned_bundle: Bundle
) -> None:
    with database.begin() as connection:
        register(connection, store, svm_bundle, by="anna")
        register(connection, store, tuned_bundle, by="anna")
    with database.connect() as connection:
        assert find_model(connection, svm_bundle.model_id[:12]).model_id == svm_bundle.model_id
        with pytest.raises(UnknownRecordError, match="No registered model has an id that begins with 'feedface'"):
            find_model(connection, "feedface")
        with pytest.raises(UnknownRecordError, match="No registered model has an id that begins with '_'"):
            find_model(connection, "_")
        with pytest.raises(UnknownRecordError, match="2 registered models have an id that begins with ''"):
            find_model(connection, "")
