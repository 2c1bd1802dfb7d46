"""A retraining that calibrates the serving model on the database's labels, and what it is calibrated on."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import date

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, PromotionRefusedError
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.registered_models import open_registered, register
from bloodcell.retraining import (
    Request,
    TrainingState,
    begin_training_run,
    promote_by_hand,
    train_candidate,
    validate_candidates,
)
from bloodcell.retraining.site_images import site_images
from bloodcell.settings import Settings
from bloodcell.site import calibrate, read_site_images
from bloodcell.site.site_images import SiteImages
from bloodcell.storage.database import open_database
from bloodcell.storage.store import Store
from tests.laboratory import Laboratory, make_champion
from tests.retraining.conftest import REQUEST, Judged
from tests.retraining.nights import label_cells, make_night
from tests.site.test_calibrating import make_site

SITE = replace(REQUEST, base="site", min_new_labels=0)
PATIENTS = [f"P{number}" for number in range(8)]


def read(settings: Settings, digest: str) -> SiteImages:
    store = Store.of(settings)
    return open_database(settings).transact(lambda c: site_images(c, store, digest))


def splits(settings: Settings) -> dict[str, str]:
    with open_database(settings).connect() as connection:
        return dict(connection.execute(sa.text("SELECT split_key, split FROM bloodcell.data_split")).all())


def test_labels_of_the_database_calibrate_the_serving_model(judged: Judged) -> None:
    settings, store = judged.settings, Store.of(judged.settings)
    begun = begin_training_run(settings, SITE, uuid.uuid4())
    assert (begun.state, begun.variants) == ("running", ("vgg16_svm",))
    model_id = train_candidate(settings, begun.training_run_id, "vgg16_svm")
    record = open_registered(store, model_id).manifest.site
    assert record is not None
    assert record.parent_id == judged.champion_id
    images = read(settings, begun.dataset)
    assert record.n_labelled == dict(sorted(images.counts().items()))
    assert record.n_slides == len({image.slide for image in images.labelled}) > 5
    assert {splits(settings)[image.slide] for image in images.images} == {"training", "validation"}
    assert train_candidate(settings, begun.training_run_id, "vgg16_svm") == model_id
    (validated,) = validate_candidates(settings, begun.training_run_id)
    assert validated.model_id == model_id
    assert "site" in open_page(validated.report)


def open_page(path: str) -> str:
    with open(path) as file:  # noqa: PTH123
        return file.read()


def test_a_calibrated_champion_is_calibrated_again_from_the_model_it_came_from(
    settings: Settings, svm_bundle: Bundle
) -> None:
    store = Store.of(settings)
    images = read_site_images(settings, make_site(settings.data_dir / "elsewhere", n_each=10))
    (calibrated,) = calibrate(images, [svm_bundle], settings, site="Elsewhere")
    open_database(settings).transact(lambda c: register(c, store, svm_bundle, by="dr.a"))
    make_champion(settings, calibrated)
    label_cells(settings, make_night(settings, patients=PATIENTS, cells_per_class=2))
    for base in ("site", "champion"):
        again = begin_training_run(settings, replace(SITE, base=base), uuid.uuid4())
        found = open_registered(store, train_candidate(settings, again.training_run_id, "vgg16_svm")).manifest
        parent = found.site.parent_id if found.site else found.base_weights.sha256
        assert parent == svm_bundle.model_id, base


def test_codes_teach_unless_their_cells_judge_and_other_cells_help(settings: Settings, svm_bundle: Bundle) -> None:
    settings = settings.model_copy(update={"sample_cells": 0})
    truth = make_night(settings, patients=PATIENTS, cells_per_class=2)
    make_champion(settings, svm_bundle)
    cells = list(truth)
    of = [[cell for cell in cells if cell[0].endswith(f"-{number}")] for number in range(len(PATIENTS))]
    with open_database(settings).connect() as connection:
        found = connection.execute(sa.text("SELECT barcode, file_name, cell_id, sha256 FROM bloodcell.cell_provenance"))
        rows = {(row.barcode, row.file_name): row for row in found}
    # one patient's cells were drawn by chance and judge; of each, six are smudges, six are labelled, four are not
    Laboratory(open_database(settings), date(2026, 3, 20)).sample([rows[cell].cell_id for cell in of[0]])
    for group in of:
        label_cells(settings, dict.fromkeys(group[:6], "ig"), labelled_as=lambda _: None, is_blind=group is of[0])
        label_cells(settings, {cell: truth[cell] for cell in group[6:12]}, is_blind=group is of[0])
    begun = begin_training_run(settings, SITE, uuid.uuid4())
    assert begun.state == "running", begun.state_reason
    images = read(settings, begun.dataset)
    judge = {key for key, split in splits(settings).items() if split in ("holdout", "lockbox")}
    assert len(judge) == 1
    expected = {
        label: {rows[cell].sha256 for group in of[1:] for cell in group[part]}
        for label, part in (("SMU", slice(0, 6)), (None, slice(12, 16)))
    }
    assert {image.sha256 for image in images.out_of_scope} == expected["SMU"]
    assert {image.label for image in images.out_of_scope} == {"SMU"}
    assert {image.sha256 for image in images.unlabelled} == expected[None]
    assert len(images.labelled) == 6 * 7
    assert not {image.slide for image in images.images} & judge
    image = images.out_of_scope[0]
    assert Store.of(settings).read_image(image.sha256) == images.read(image.image)


def test_too_few_labels_to_calibrate_are_skipped_with_the_reason(settings: Settings, svm_bundle: Bundle) -> None:
    truth = make_night(settings, patients=PATIENTS[:4], cells_per_class=1)
    make_champion(settings, svm_bundle)
    label_cells(settings, {cell: name for cell, name in truth.items() if name in ("ig", "monocyte")})
    begun = begin_training_run(settings, SITE, uuid.uuid4())
    assert begun.state is TrainingState.SKIPPED
    assert "Too few labelled images to calibrate" in str(begun.state_reason)
    assert "in 2 of the eight classes" in str(begun.state_reason)


def test_without_a_hold_out_a_model_is_promoted_only_if_its_verdict_allows_it(
    settings: Settings, svm_bundle: Bundle
) -> None:
    make_champion(settings, svm_bundle)
    images = read_site_images(settings, make_site(settings.data_dir / "elsewhere", n_each=10))
    one_slide = replace(images, images=tuple(replace(image, slide="S0") for image in images.images))
    made = {}
    for name, each in (("usable", images), ("one slide", one_slide)):
        (made[name],) = calibrate(each, [svm_bundle], settings, site=name)
    with open_database(settings).begin() as connection:
        for bundle in made.values():
            register(connection, Store.of(settings), bundle, by="dr.a")
    with pytest.raises(PromotionRefusedError, match="one slide, with this verdict: Must not be used"):
        promote_by_hand(settings, made["one slide"].model_id, by="dr.a", reason="try")
    record = open_bundle(made["usable"].folder).manifest.site
    assert record is not None and record.may_be_used, record and record.verdict
    assert promote_by_hand(settings, made["usable"].model_id, by="dr.a", reason="try") == made["usable"].model_id


def test_a_variant_that_does_not_serve_cannot_be_calibrated(judged: Judged) -> None:
    request: Request = replace(SITE, variants=("vgg16",))
    with pytest.raises(ConfigurationError, match=r"no model of vgg16 to start from .base site"):
        begin_training_run(judged.settings, request, uuid.uuid4())
