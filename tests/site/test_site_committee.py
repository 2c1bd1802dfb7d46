"""The variants of one base network are also calibrated as one model, their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.inference.predicting import predict_all
from bloodcell.registry.bundle import Bundle, images_of, open_bundle
from bloodcell.registry.registered_models import register, registered_models
from bloodcell.settings import Settings
from bloodcell.site.calibrating import calibrate
from bloodcell.site.fitted_variant import FittedVariant, fit_variant
from bloodcell.site.site_cells import SiteCells, site_cells
from bloodcell.site.site_committee import committees_of, mean_of
from bloodcell.site.site_head import Judged
from bloodcell.site.site_images import SiteImages, read_site_images
from bloodcell.site.site_scale import SiteScale
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from bloodcell.training.image_folders import read_file
from bloodcell.training.turned_bundle import turned_bundle
from tests.site.test_calibrating import make_site
from tests.site.test_codes_of_a_site import add_blasts


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SiteImages:
    return read_site_images(Settings(), add_blasts(make_site(tmp_path_factory.mktemp("site")), n_each=5))


@pytest.fixture(scope="module")
def calibrated(
    images: SiteImages, svm_bundle: Bundle, tuned_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, ...]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("calibrated"))
    return calibrate(images, [tuned_bundle, svm_bundle], settings, site="Elsewhere")


def fitted(cells: SiteCells, bundles: list[Bundle], folder: Path) -> list[FittedVariant]:
    scale = SiteScale(None, None)
    return [fit_variant(bundle, cells, scale, Settings(data_dir=folder), lambda *_: None) for bundle in bundles]


def test_a_committee_is_the_mean_of_its_members(calibrated: tuple[Bundle, ...], images: SiteImages) -> None:
    *members, committee = calibrated
    assert committee.title == "vgg16 + vgg16_svm"
    assert [member.title for member in members] == ["vgg16", "vgg16_svm"]
    found = predict_all(calibrated, [image.image for image in images.images], read_file, Settings())
    outputs = [found[member.model_id] for member in members]
    mean = found[committee.model_id]
    np.testing.assert_allclose(mean.probabilities, np.mean([each.probabilities for each in outputs], axis=0), atol=1e-4)
    own = [member.manifest.novelty_threshold for member in members]
    ratios = [each.novelty / threshold for each, threshold in zip(outputs, own, strict=True)]
    np.testing.assert_allclose(mean.novelty, np.mean(ratios, axis=0), rtol=1e-3)
    assert mean.of_codes is not None and mean.of_codes.shape == (len(images.images), 1)


def test_the_database_calls_each_model_what_its_bundle_does(
    calibrated: tuple[Bundle, ...], database: Database, settings: Settings, tmp_path: Path
) -> None:
    made = (*calibrated, turned_bundle(calibrated[0], 2, tmp_path))
    with database.begin() as connection:
        for bundle in made:
            register(connection, Store.of(settings), bundle, by="anna")
        found = {model.model_id: model.title for model in registered_models(connection)}
    assert found == {bundle.model_id: bundle.title for bundle in made}
    assert sorted(found.values()) == ["vgg16", "vgg16 + vgg16_svm", "vgg16, 2 turns", "vgg16_svm"]


def test_its_bundle_says_what_was_fitted(
    calibrated: tuple[Bundle, ...], images: SiteImages, svm_bundle: Bundle, tuned_bundle: Bundle, tmp_path: Path
) -> None:
    committee = open_bundle(calibrated[-1].folder)
    record = committee.manifest.site
    assert record is not None
    assert (record.parent_id, record.members) == (tuned_bundle.model_id, ("vgg16", "vgg16_svm"))
    cells = site_cells(images)
    [made] = committees_of(fitted(cells, [tuned_bundle, svm_bundle], tmp_path), cells)
    assert made.verdict == record.verdict
    assert committee.manifest.confidence_threshold == pytest.approx(made.confidence_threshold)
    assert committee.manifest.novelty_threshold == pytest.approx(made.novelty_threshold)
    assert made.comparison.candidate is not None
    assert committee.manifest.metrics.accuracy == made.comparison.candidate.accuracy.value


def test_where_members_disagree_strongly_it_makes_no_call() -> None:
    one, other = np.zeros((3, 8)), np.zeros((3, 8))
    one[:, 2], other[[0, 2], 2], other[1, 5] = 0.95, 0.9, 0.9
    near, far = np.array([1.0, 1.0, 1.0]), np.array([2.0, 2.0, 9.0])
    nothing = np.zeros((3, 0))
    mean = mean_of([Judged(one, nothing, near), Judged(other, nothing, far)], [2.0, 4.0])
    np.testing.assert_allclose(mean.distance, [0.5, 0.5, 1.375])
    calls = mean.calls(0.6, 1.0, ())
    assert calls.reasons == (None, "low_confidence", "novel")


def test_variants_of_other_base_networks_or_alone_have_no_committee(
    images: SiteImages, svm_bundle: Bundle, tmp_path: Path
) -> None:
    cells = site_cells(images)
    assert committees_of(fitted(cells, [svm_bundle], tmp_path), cells) == ()


def test_models_that_were_made_of_another_are_refused_as_parents(
    calibrated: tuple[Bundle, ...], images: SiteImages, svm_bundle: Bundle, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    for parent in (calibrated[1], turned_bundle(svm_bundle, 2, tmp_path / "turned")):
        with pytest.raises(ConfigurationError, match=f"start from model {svm_bundle.model_id[:12]}"):
            calibrate(images, [parent], settings, site="Elsewhere")


def test_it_has_seen_what_the_parents_of_all_members_have_seen(
    calibrated: tuple[Bundle, ...], images: SiteImages, svm_bundle: Bundle, tuned_bundle: Bundle
) -> None:
    of_site = {image.sha256 for image in images.labelled}
    assert images_of(calibrated[-1]) == images_of(svm_bundle) | images_of(tuned_bundle) | of_site
