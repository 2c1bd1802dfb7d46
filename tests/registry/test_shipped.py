"""A new installation gets the models that come with bloodcell; any other keeps its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.cells.variants import VARIANTS
from bloodcell.errors import BundleError
from bloodcell.registry import shipped
from bloodcell.registry.bundle import MODEL, Bundle
from bloodcell.registry.registered_models import registered_models
from bloodcell.registry.shipped import FOLDER, MODEL_IDS, install_shipped, shipped_bundles
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.laboratory import at_once


@pytest.fixture
def release(
    tmp_path: Path, tuned_bundle: Bundle, svm_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Bundle]:
    """A release that ships two small models, the fine-tuned one as champion."""
    bundles = {"vgg16": tuned_bundle, "vgg16_svm": svm_bundle}
    for variant, bundle in bundles.items():
        shutil.copytree(bundle.folder, tmp_path / "release" / variant)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "release")
    monkeypatch.setattr(shipped, "MODEL_IDS", {variant: bundle.model_id for variant, bundle in bundles.items()})
    return bundles


def _roles(database: Database) -> dict[str, str]:
    with database.connect() as connection:
        return {model.model_id: model.role for model in registered_models(connection)}


def test_a_new_installation_has_a_champion_and_its_challengers(
    database: Database, settings: Settings, release: dict[str, Bundle]
) -> None:
    installed = install_shipped(settings, database)
    assert [each.model_id for each in installed] == [each.model_id for each in release.values()]
    assert _roles(database) == {
        release["vgg16"].model_id: "champion",
        release["vgg16_svm"].model_id: "challenger",
    }
    with database.connect() as connection:
        row = connection.execute(sa.text("SELECT promoted_by, reason, evidence FROM bloodcell.model_history")).one()
    assert (row.promoted_by, set(row.evidence["shipped"])) == ("bloodcell", set(release))
    assert "not yet validated on this laboratory" in row.reason
    assert install_shipped(settings, database) == [], "the next start changes nothing"


def test_two_simultaneous_starts_install_them_once(
    database: Database, settings: Settings, release: dict[str, Bundle]
) -> None:
    installed: list[int] = []
    assert at_once(2, lambda: installed.append(len(install_shipped(settings, database)))) == []
    assert sorted(installed) == [0, len(release)]
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.model_history")) == 1


@pytest.mark.usefixtures("release")
def test_a_laboratory_that_wants_no_shipped_models_gets_none(database: Database, settings: Settings) -> None:
    assert install_shipped(settings.model_copy(update={"shipped_models": False}), database) == []
    assert _roles(database) == {}


def test_an_altered_file_is_refused_and_nothing_is_installed(
    database: Database, settings: Settings, release: dict[str, Bundle]
) -> None:
    model = shipped.FOLDER / "vgg16_svm" / MODEL
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="altered"):
        install_shipped(settings, database)
    assert _roles(database) == {}


def test_a_whole_bundle_of_another_release_is_refused(release: dict[str, Bundle]) -> None:
    shutil.rmtree(shipped.FOLDER / "vgg16")
    shutil.copytree(release["vgg16_svm"].folder, shipped.FOLDER / "vgg16")
    with pytest.raises(BundleError, match=f"expected {release['vgg16'].model_id}"):
        shipped_bundles()


def test_the_shipped_bundles_are_complete_and_small_enough() -> None:
    assert set(MODEL_IDS) == set(VARIANTS)
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 45e6 for path in files)
    assert sum(path.stat().st_size for path in files) < 110e6
    assert [bundle.model_id for bundle in shipped_bundles()] == list(MODEL_IDS.values())
