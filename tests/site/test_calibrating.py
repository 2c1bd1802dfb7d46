"""A laboratory whose images look different is calibrated from some labels, and its figures are of slides left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import TrainingDataError
from bloodcell.inference.model_loading import load_model
from bloodcell.inference.model_output import calls_of
from bloodcell.inference.predicting import predict_all
from bloodcell.registry.bundle import Bundle, images_of, open_bundle
from bloodcell.settings import Settings
from bloodcell.site.calibrating import calibrate
from bloodcell.site.fitted_variant import fit_variant, parent_outputs_on
from bloodcell.site.site_cells import site_cells
from bloodcell.site.site_fitting import calls_by
from bloodcell.site.site_head import SiteOutputs
from bloodcell.site.site_images import SiteImages, read_site_images
from bloodcell.site.site_model import parent_outputs, site_model
from bloodcell.site.site_scale import SiteScale
from bloodcell.training.image_folders import read_file
from tests.small_cells import draw

N_SLIDES = 5


def make_site(folder: Path, *, n_each: int = 3, classes: tuple[str, ...] = CELL_CLASSES, seed: int = 7) -> Path:
    """Writes FOLDER/<class>/<slide>/*.png of a laboratory with another stain: another channel order, and paler."""
    for number, cell_class in enumerate(classes):
        for slide in range(N_SLIDES):
            place = folder / cell_class / f"S{slide}"
            place.mkdir(parents=True)
            for each in range(n_each):
                rng = np.random.default_rng((seed, number, slide, each))
                pixels = np.asarray(draw(cell_class, rng)).astype(float)
                pixels = 255 - (255 - pixels) * [0.7, 0.9, 0.6] + slide
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(place / f"{each}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SiteImages:
    return read_site_images(Settings(), make_site(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def parents(svm_bundle: Bundle, tuned_bundle: Bundle) -> list[Bundle]:
    return [svm_bundle, tuned_bundle]


@pytest.fixture(scope="module")
def calibrated(
    images: SiteImages, parents: list[Bundle], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, ...]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("calibrated"))
    return calibrate(images, parents, settings, site="Elsewhere")


def outputs_on(bundles: list[Bundle], images: SiteImages) -> list[np.ndarray]:
    found = predict_all(bundles, [each.image for each in images.labelled], read_file, Settings())
    return [found[bundle.model_id].probabilities for bundle in bundles]


def test_calibrated_models_are_better_than_their_parents_on_new_slides(
    calibrated: tuple[Bundle, ...], parents: list[Bundle], tmp_path: Path
) -> None:
    new = read_site_images(Settings(), make_site(tmp_path / "new", n_each=2, seed=8))
    truth = np.array([each.class_number for each in new.labelled])
    accuracy = [(p.argmax(axis=1) == truth).mean() for p in outputs_on([*parents, *calibrated[:2]], new)]
    for before, after in zip(accuracy[:2], accuracy[2:], strict=True):
        assert after > max(before, 0.7)


def test_the_bundle_of_a_site_names_its_parent_its_labels_and_every_image_it_has_seen(
    calibrated: tuple[Bundle, ...], parents: list[Bundle], images: SiteImages
) -> None:
    for each, parent in zip(calibrated[:2], parents, strict=True):
        bundle = open_bundle(each.folder)
        record = bundle.manifest.site
        assert record is not None
        assert bundle.model_id != parent.model_id
        assert (record.name, record.parent_id, record.n_slides) == ("Elsewhere", parent.model_id, N_SLIDES)
        assert record.n_labelled == dict.fromkeys(sorted(CELL_CLASSES), 3 * N_SLIDES)
        assert images_of(bundle) == images_of(parent) | {image.sha256 for image in images.images}


def test_the_model_in_the_bundle_computes_what_was_fitted(
    calibrated: tuple[Bundle, ...], parents: list[Bundle], images: SiteImages, tmp_path: Path
) -> None:
    cells = site_cells(images)
    for bundle, parent in zip(calibrated[:2], parents, strict=True):
        scale = SiteScale(None, bundle.manifest.field_px)
        made = fit_variant(parent, cells, scale, Settings(data_dir=tmp_path), lambda *_: None)
        found = predict_all([bundle], [image.image for image in cells.labelled], read_file, Settings())
        judged, _ = calls_by(made.fit, made.labelled)
        np.testing.assert_allclose(found[bundle.model_id].probabilities, judged.probabilities, atol=1e-3)
        np.testing.assert_allclose(found[bundle.model_id].novelty, judged.distance, rtol=1e-2, atol=1e-2)
        assert made.comparison.candidate is not None
        assert made.comparison.candidate.accuracy.value == bundle.manifest.metrics.accuracy


def test_the_stored_model_divides_the_odds_of_no_cell_as_the_head_does(
    pixels_bundle: Bundle, images: SiteImages, tmp_path: Path
) -> None:
    """The parent has a score for no class, and takes these cells for it more or less."""
    made = fit_variant(
        pixels_bundle, site_cells(images), SiteScale(None, None), Settings(data_dir=tmp_path), lambda *_: None
    )
    head = replace(made.fit.head, none_divisor=7.5)
    model = load_model(pixels_bundle)
    outputs = parent_outputs(model, "vgg16")
    stored = site_model(load_model(pixels_bundle), "vgg16", head, made.fit.temperature)
    rng = np.random.default_rng(1)
    shown = np.stack([np.asarray(draw(name, rng).resize((40, 40))) for name in CELL_CLASSES])
    shown = np.concatenate(
        [shown, np.full((2, 40, 40, 3), 220, np.uint8), rng.integers(0, 255, (2, 40, 40, 3), np.uint8)]
    )
    of_parent = outputs.predict_on_batch(shown)
    assert np.ptp(of_parent["probabilities"].sum(axis=1)) > 0.2
    seen = SiteOutputs(of_parent["features"], of_parent["probabilities"], of_parent["novelty"])
    scores, distance = head.gaussians.scores(seen.features), head.gaussians.distance(seen.features)
    judged = head.judge(scores, distance, seen, made.fit.temperature)
    found = stored.predict_on_batch(shown)
    np.testing.assert_allclose(found["probabilities"], judged.probabilities, atol=1e-3)


def test_calibrating_again_uses_the_cached_outputs_and_gives_the_same_model(
    images: SiteImages, parents: list[Bundle], tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    steps: list[str] = []
    first = calibrate(images, parents[:1], settings, site="A")
    again = calibrate(images, parents[:1], settings, site="A", on_progress=lambda step, *_: steps.append(step))
    assert not [step for step in steps if step.endswith(": images")]
    one, other = (each[0].manifest for each in (first, again))
    assert replace(one, created_at="", files={}) == replace(other, created_at="", files={})


def test_too_few_labels_or_only_one_class_are_refused(parents: list[Bundle], tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    few = read_site_images(settings, make_site(tmp_path / "few", n_each=1, classes=("ig", "monocyte")))
    with pytest.raises(TrainingDataError, match="received 5 ig, 5 monocyte"):
        calibrate(few, parents[:1], settings, site="A")
    one = read_site_images(settings, make_site(tmp_path / "one", n_each=6, classes=("ig",)))
    with pytest.raises(TrainingDataError, match="received 30 ig"):
        calibrate(one, parents[:1], settings, site="A")


def test_random_labels_give_a_model_that_must_not_be_used(
    images: SiteImages, parents: list[Bundle], tmp_path: Path
) -> None:
    names = np.random.default_rng(0).permutation([str(image.label) for image in images.images])
    relabelled = (replace(image, label=str(label)) for image, label in zip(images.images, names, strict=True))
    shuffled = replace(images, images=tuple(relabelled))
    (made,) = calibrate(shuffled, parents[:1], Settings(data_dir=tmp_path), site="A")
    assert made.manifest.site is not None
    assert made.manifest.site.verdict[0].startswith("Must not be used")
    assert made.manifest.metrics.accuracy < 0.4


def test_with_two_wrong_labels_in_five_the_model_must_not_be_used(
    images: SiteImages, parents: list[Bundle], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    wrong = set(rng.permutation(len(images.images))[: round(0.4 * len(images.images))])
    relabelled = tuple(
        replace(image, label=CELL_CLASSES[(CELL_CLASSES.index(str(image.label)) + int(rng.integers(1, 8))) % 8])
        if number in wrong
        else image
        for number, image in enumerate(images.images)
    )
    for made in calibrate(replace(images, images=relabelled), parents, Settings(data_dir=tmp_path), site="A"):
        assert made.manifest.site is not None
        assert made.manifest.site.verdict[0].startswith("Must not be used")


def test_labels_of_one_slide_give_a_model_that_must_not_be_used(
    images: SiteImages, parents: list[Bundle], tmp_path: Path
) -> None:
    alone = replace(images, images=tuple(replace(image, slide="S0") for image in images.images))
    (made,) = calibrate(alone, parents[:1], Settings(data_dir=tmp_path), site="A")
    assert made.manifest.site is not None
    assert made.manifest.site.verdict[0].startswith("Must not be used: all labelled cells count as one slide")


def test_cells_of_a_class_without_labels_get_no_call_and_the_model_computes_what_was_fitted(
    images: SiteImages, parents: list[Bundle], tmp_path: Path
) -> None:
    without = replace(images, images=tuple(image for image in images.images if image.label != "platelet"))
    settings = Settings(data_dir=tmp_path)
    bundles = calibrate(without, parents, settings, site="A")
    new = read_site_images(Settings(), make_site(tmp_path / "new", n_each=2, seed=8))
    truth = np.array([each.class_number for each in new.labelled])
    missing = CELL_CLASSES.index("platelet")
    for bundle, parent in zip(bundles[:2], parents, strict=True):
        record = bundle.manifest.site
        assert record is not None
        assert "platelets (0 labelled cells of 0 slides" in " ".join(record.verdict)
        found = predict_all([bundle], [each.image for each in new.labelled], read_file, Settings())[bundle.model_id]
        calls = calls_of(bundle, found)
        assert "platelet" not in calls.called
        # the colours of these cells are so far from the training's that a parent cannot tell all of them
        assert (~calls.unclassified[truth == missing]).mean() < 0.5
        made = fit_variant(
            parent, site_cells(without), SiteScale(None, bundle.manifest.field_px), settings, lambda *_: None
        )
        assert made.fit.head.unknown.tolist() == [name == "platelet" for name in CELL_CLASSES]
        outputs = parent_outputs_on(
            parent, new.labelled, read_file, settings, bundle.manifest.field_px, lambda *_: None
        )
        judged, _ = calls_by(made.fit, outputs)
        np.testing.assert_allclose(found.probabilities, judged.probabilities, atol=2e-3)
        np.testing.assert_allclose(found.novelty, judged.distance, rtol=1e-2, atol=1e-2)


def test_a_class_whose_labels_are_of_one_slide_does_not_spoil_the_thresholds(
    images: SiteImages, parents: list[Bundle], tmp_path: Path
) -> None:
    """Left out with its slide, the class is unknown to the head, and its wrong scores say nothing about the others."""
    gathered = replace(
        images,
        images=tuple(replace(image, slide="S9") if image.label == "ig" else image for image in images.images),
    )
    (made, before) = (
        fit_variant(
            parents[0], site_cells(each), SiteScale(None, None), Settings(data_dir=tmp_path), lambda *_: None
        ).fit
        for each in (gathered, images)
    )
    assert made.confidence_threshold == before.confidence_threshold
    assert made.novelty_threshold == pytest.approx(before.novelty_threshold, rel=0.05)
    ig = CELL_CLASSES.index("ig")
    assert (made.judged.probabilities.argmax(axis=1) == site_cells(gathered).labels)[
        site_cells(gathered).labels != ig
    ].mean() > 0.7
