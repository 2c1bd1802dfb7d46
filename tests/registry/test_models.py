from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
import sqlalchemy as sa

from bloodcell.errors import BundleError, ConfigurationError, StoreUnavailableError, UnknownRecordError
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.models import (
    find_model,
    open_registered,
    promote,
    register,
    registered_models,
    rollback,
    serving_models,
)
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store.of(settings)


def test_registered_bundle_is_stored_whole_and_known_once(database: Database, store: Store, svm_bundle: Bundle) -> None:
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


def test_promotion_makes_champion_and_challenger_and_rollback_undoes_it(
    database: Database, store: Store, svm_bundle: Bundle, tuned_bundle: Bundle
) -> None:
    with database.begin() as connection:
        register(connection, store, svm_bundle, by="anna")
        register(connection, store, tuned_bundle, by="anna")
        promote(connection, store, svm_bundle.model_id, by="anna", reason="first", evidence={})
        assert [m.model_id for m in serving_models(connection)] == [svm_bundle.model_id, tuned_bundle.model_id]
        promote(connection, store, tuned_bundle.model_id[:12], by="ben", reason="better", evidence={"accuracy": 0.97})
        assert [m.model_id for m in serving_models(connection)] == [tuned_bundle.model_id, svm_bundle.model_id]
        assert (
            rollback(connection, store, replaces=tuned_bundle.model_id, by="ben", reason="complaints")
            == svm_bundle.model_id
        )
        assert serving_models(connection)[0].model_id == svm_bundle.model_id
    with database.connect() as connection:
        history = connection.execute(
            sa.text(
                "SELECT action, promoted_by, reason, variant, dataset_digest"
                " FROM bloodcell.model_history ORDER BY promotion_id"
            )
        ).all()
    digest = svm_bundle.manifest.data.dataset_digest
    assert [tuple(row) for row in history] == [
        ("promote", "anna", "first", "vgg16_svm", digest),
        ("promote", "ben", "better", "vgg16", digest),
        ("rollback", "ben", "complaints", "vgg16_svm", digest),
    ]


def test_promotion_needs_a_reason_a_known_model_and_a_change(
    database: Database, store: Store, svm_bundle: Bundle
) -> None:
    with database.begin() as connection:
        register(connection, store, svm_bundle, by="anna")
    for model_id, reason, error in (
        (svm_bundle.model_id, "  ", ConfigurationError),
        ("feedface", "why", UnknownRecordError),
        ("", "why", UnknownRecordError),
    ):
        with pytest.raises(error), database.begin() as connection:
            promote(connection, store, model_id, by="anna", reason=reason, evidence={})
    with database.begin() as connection:
        promote(connection, store, svm_bundle.model_id, by="anna", reason="first", evidence={})
    with pytest.raises(ConfigurationError, match="champion already"), database.begin() as connection:
        promote(connection, store, svm_bundle.model_id, by="anna", reason="again", evidence={})
    with pytest.raises(ConfigurationError, match="no earlier champion"), database.begin() as connection:
        rollback(connection, store, replaces=None, by="anna", reason="why")


def test_altered_bundle_is_not_promoted(database: Database, store: Store, svm_bundle: Bundle) -> None:
    with database.begin() as connection:
        register(connection, store, svm_bundle, by="anna")
    (store.bundle_folder(svm_bundle.model_id) / "svm.skops").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"svm\.skops is altered"), database.begin() as connection:
        promote(connection, store, svm_bundle.model_id, by="anna", reason="first", evidence={})
    with database.connect() as connection:
        assert find_model(connection, svm_bundle.model_id).role == "idle"


def test_a_decision_whose_commit_was_lost_on_its_way_back_is_not_taken_twice(
    database: Database, store: Store, svm_bundle: Bundle, tuned_bundle: Bundle
) -> None:
    first, second = svm_bundle.model_id, tuned_bundle.model_id
    with database.begin() as connection:
        register(connection, store, svm_bundle, by="anna")
        register(connection, store, tuned_bundle, by="anna")
        for model_id in (first, second, first):
            for _ in range(2):
                promote(connection, store, model_id, by="anna", reason="better", evidence={})
        for _ in range(2):
            assert rollback(connection, store, replaces=first, by="anna", reason="worse") == second
        with pytest.raises(ConfigurationError, match="became champion meanwhile"):
            rollback(connection, store, replaces="0" * 64, by="anna", reason="worse")
        actions = connection.scalars(sa.text("SELECT action FROM bloodcell.promotion ORDER BY promotion_id")).all()
    assert actions == ["promote", "promote", "promote", "rollback"]


def test_registering_again_mends_a_bundle_that_was_altered_or_left_half(
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


def test_a_store_that_is_away_is_to_be_tried_again_and_is_no_broken_bundle(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="is away"):
        open_registered(Store(str(tmp_path / "unmounted"), tmp_path / "cache"), "0" * 64)


def test_verifying_looks_at_the_store_itself_and_not_at_a_copy_fetched_earlier(
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
