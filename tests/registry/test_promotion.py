"""Which model becomes champion, and what is recorded about it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from bloodcell.errors import BundleError, ConfigurationError, UnknownRecordError
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.promotion import promote, rollback
from bloodcell.registry.registered_models import (
    find_model,
    register,
    serving_models,
)
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store.of(settings)


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
    (store.bundle_folder(svm_bundle.model_id) / "reference.npz").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"reference\.npz is altered"), database.begin() as connection:
        promote(connection, store, svm_bundle.model_id, by="anna", reason="first", evidence={})
    with database.connect() as connection:
        assert find_model(connection, svm_bundle.model_id).role == "idle"


def test_a_decision_repeated_after_its_confirmation_was_lost_is_recorded_once(
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
