"""Which cells judge a calibrated model, and what its verdict says of calls that no figure of a class shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bloodcell.appearance.image_look import looks_of
from bloodcell.appearance.look_reference import compared
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import TrainingDataError
from bloodcell.registry.bundle import Bundle
from bloodcell.settings import Settings
from bloodcell.site.class_gaussians import ClassGaussians
from bloodcell.site.fitted_variant import FittedVariant, fit_variant
from bloodcell.site.site_cells import SiteCells, site_cells
from bloodcell.site.site_comparison import SiteCalls, call_figures
from bloodcell.site.site_fitting import thresholds_of
from bloodcell.site.site_head import MOST_DIVIDED, MOST_SUSPECTED, Judged, SiteOutputs, head_of
from bloodcell.site.site_images import SiteImage, SiteImages, read_site_images
from bloodcell.site.site_look import with_known_looks
from bloodcell.site.site_scale import SiteScale
from bloodcell.site.site_verdict import may_be_used, measure
from tests.site.test_calibrating import N_SLIDES, make_site
from tests.small_cells import draw


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def images(folder: Path) -> SiteImages:
    return read_site_images(Settings(), folder)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the outputs of the networks are computed once."""
    return tmp_path_factory.mktemp("data")


def fitted(parent: Bundle, cells: SiteCells, data_dir: Path) -> FittedVariant:
    return fit_variant(parent, cells, SiteScale(None, None), Settings(data_dir=data_dir), lambda *_: None)


def only(images: SiteImages, chosen: Sequence[SiteImage]) -> SiteImages:
    return replace(images, images=tuple(chosen))


def certain(classes: Sequence[int]) -> Judged:
    """Returns what a head makes of cells that it takes for these classes with certainty; 8: of none."""
    return Judged(np.eye(9)[list(classes)][:, :8], np.zeros((len(classes), 0)), np.zeros(len(classes)))


@pytest.mark.parametrize(("n_called", "may"), [(0, True), (4, True), (30, False)])
def test_cells_out_of_scope_that_are_called_count_as_wrong(
    n_called: int, may: bool, images: SiteImages, svm_bundle: Bundle
) -> None:
    """All cells of the classes are called rightly; of 40 cells of blasts some are called neutrophils."""
    labelled = tuple(image for image in images.labelled for _ in range(3))
    labels = np.array([CELL_CLASSES.index(str(image.label)) for image in labelled])
    slides = np.arange(len(labels)) % 12
    blasts = tuple(replace(labelled[0], label="BL", slide=f"B{number}") for number in range(40))
    cells = SiteCells(labelled, labels, slides, blasts, (), (), images.read)
    judged, outside = certain(labels.tolist()), certain([6] * n_called + [8] * (40 - n_called))
    site = SiteCalls("x", judged, judged.calls(0.5, 1.0, ()), outside, outside.calls(0.5, 1.0, ()), 1.0)
    judging = np.ones(len(labels), bool)
    found = call_figures(site, cells, judging)
    assert found.right is not None and found.right.value == pytest.approx(360 / (360 + n_called))
    of_neutrophils = found.by_class[6]
    assert of_neutrophils is not None and of_neutrophils.value == pytest.approx(45 / (45 + n_called))
    n_all = len(labels) + 40
    as_is = SiteOutputs(
        np.zeros((n_all, 2), np.float32), np.full((n_all, 8), 0.1, np.float32), np.zeros(n_all, np.float32)
    )
    _, _, verdict = measure(site, svm_bundle, as_is, cells, judging, by_slide=True)
    assert may_be_used(verdict) == may, verdict


def test_a_model_that_calls_most_cells_out_of_scope_must_not_be_used(images: SiteImages, svm_bundle: Bundle) -> None:
    labelled = tuple(image for image in images.labelled for _ in range(30))
    labels = np.array([CELL_CLASSES.index(str(image.label)) for image in labelled])
    blasts = tuple(replace(labelled[0], label="BL", slide=f"B{number}") for number in range(40))
    cells = SiteCells(labelled, labels, np.arange(len(labels)) % 40, blasts, (), (), images.read)
    judged, outside = certain(labels.tolist()), certain([6] * 25 + [8] * 15)
    site = SiteCalls("x", judged, judged.calls(0.5, 1.0, ()), outside, outside.calls(0.5, 1.0, ()), 1.0)
    n_all = len(labels) + 40
    as_is = SiteOutputs(
        np.zeros((n_all, 2), np.float32), np.full((n_all, 8), 0.1, np.float32), np.zeros(n_all, np.float32)
    )
    _, _, verdict = measure(site, svm_bundle, as_is, cells, np.ones(len(labels), bool), by_slide=True)
    assert verdict[0].startswith("Must not be used: only 37.5 %")


def test_without_labels_out_of_scope_the_verdict_says_that_nothing_is_known_of_such_cells(
    images: SiteImages, svm_bundle: Bundle, data_dir: Path
) -> None:
    made = fitted(svm_bundle, site_cells(images), data_dir)
    assert made.verdict[-1] == "Nothing is known of blasts and other cells out of scope: none is labelled."


def test_thresholds_of_a_part_are_chosen_on_the_others() -> None:
    rng = np.random.default_rng(0)
    labels, parts = rng.integers(0, 8, 200), np.arange(200) % 5
    probabilities, distance = rng.dirichlet(np.ones(8), 200), rng.random(200)
    probabilities[np.arange(200), labels] += 2.0 * (rng.random(200) > 0.1)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    can_judge, rest = np.ones(200, bool), parts != 3
    before = thresholds_of(probabilities, distance, labels, can_judge, rest)
    changed = np.where(rest, labels, (labels + 1) % 8)
    assert thresholds_of(probabilities, np.where(rest, distance, 99.0), changed, can_judge, rest) == before
    assert thresholds_of(probabilities, distance, changed, can_judge, ~rest) != before


def test_slides_that_the_parent_was_trained_on_do_not_judge(
    images: SiteImages, svm_bundle: Bundle, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = site_cells(images)
    first = frozenset(image.sha256 for image in cells.labelled if image.slide in ("S0", "S1"))
    monkeypatch.setattr("bloodcell.site.fitted_variant.images_of", lambda bundle: first)
    made = fitted(svm_bundle, cells, data_dir)
    n_new = sum(image.slide not in ("S0", "S1") for image in cells.labelled)
    assert (made.comparison.n_cells, made.comparison.n_slides) == (n_new, N_SLIDES - 2)
    everything = frozenset(image.sha256 for image in cells.labelled)
    monkeypatch.setattr("bloodcell.site.fitted_variant.images_of", lambda bundle: everything)
    with pytest.raises(TrainingDataError, match="was trained on cells of all labelled slides"):
        fitted(svm_bundle, cells, data_dir)


def test_images_without_a_slide_beside_others_are_refused(images: SiteImages) -> None:
    loose = [replace(image, slide="") if number < 3 else image for number, image in enumerate(images.labelled)]
    with pytest.raises(TrainingDataError, match="3 of 120 labelled images name no slide"):
        site_cells(only(images, loose))


def test_a_class_with_a_few_labels_of_one_slide_is_as_one_without_labels(
    images: SiteImages, svm_bundle: Bundle, data_dir: Path
) -> None:
    chosen = [image for image in images.labelled if image.label != "basophil" or image.slide == "S0"]
    made = fitted(svm_bundle, site_cells(only(images, chosen)), data_dir)
    assert made.fit.head.unknown.tolist() == [name == "basophil" for name in CELL_CLASSES]


def test_classes_of_one_slide_each_beside_a_code_of_several_give_a_verdict(
    images: SiteImages, svm_bundle: Bundle, data_dir: Path
) -> None:
    one = [replace(image, slide="S0") for image in images.labelled if image.label == "ig"]
    other = [replace(image, slide="S1") for image in images.labelled if image.label == "monocyte"]
    blasts = [replace(image, label="BL") for image in images.labelled if image.label in ("platelet", "eosinophil")]
    made = fitted(svm_bundle, site_cells(only(images, [*one, *other, *blasts])), data_dir)
    assert made.verdict[0].startswith("Must not be used")


@pytest.mark.parametrize(("share_of_blasts", "of_the_class"), [(0, 0.0), (40, 0.0), (0, 0.9)])
def test_labels_of_codes_do_not_open_the_door_to_a_class_without_labels(
    share_of_blasts: int, of_the_class: float
) -> None:
    """The parent takes blasts for the class without labels, and may take labelled cells for it, too."""
    missing, n_cells = 3, 60
    known = np.ones(9, bool)
    known[missing] = False
    probabilities = np.zeros((n_cells + share_of_blasts, 8), np.float32)
    probabilities[:n_cells, 0], probabilities[:n_cells, missing] = 1 - of_the_class, of_the_class
    probabilities[n_cells:, missing] = 1.0
    nothing = np.zeros((len(probabilities), 2), np.float32)
    labels = np.where(np.arange(len(probabilities)) < n_cells, 0, 8)
    head = head_of(knowing(known), SiteOutputs(nothing, probabilities, nothing[:, 0]), labels)
    assert head.unknown_limit == pytest.approx(min(of_the_class, MOST_SUSPECTED))


def knowing(known: np.ndarray) -> ClassGaussians:
    """Returns a head that knows these of nine classes, the last of them a code's."""
    return ClassGaussians(np.zeros((2, 2), np.float32), np.zeros(2, np.float32), np.zeros((9, 2), np.float32), known)


def test_a_parent_that_takes_the_cells_of_a_site_for_none_does_not_make_them_doubtful() -> None:
    """Its odds of no cell are divided until most labelled cells have few; what it is sure is none stays so."""
    of_any = np.concatenate([np.full(50, 0.6), np.full(10, 0.05)])
    probabilities = np.zeros((60, 8), np.float32)
    probabilities[:, 0] = of_any
    nothing = np.zeros((60, 2), np.float32)
    head = head_of(knowing(np.ones(9, bool)), SiteOutputs(nothing, probabilities, nothing[:, 0]), np.zeros(60, int))
    assert 1 < head.none_divisor < MOST_DIVIDED
    scores = np.where(np.arange(9) == 0, 20.0, 0.0) * np.ones((60, 1))
    judged = head.judge(scores, np.zeros(60), SiteOutputs(nothing, probabilities, nothing[:, 0]), 1.0)
    assert (judged.probabilities[:50, 0] > 0.94).all()
    assert (judged.probabilities[50:, 0] < 0.7).all()  # a few poor images stay doubtful
    empty = np.zeros((1, 8), np.float32)
    empty[0, 0] = 0.001
    held = head.judge(scores[:1], np.zeros(1), SiteOutputs(nothing[:1], empty, nothing[:1, 0]), 1.0)
    assert held.probabilities.max() < 0.1
    sure = SiteOutputs(nothing, np.eye(8, dtype=np.float32)[np.zeros(60, int)], nothing[:, 0])
    assert head_of(knowing(np.ones(9, bool)), sure, np.zeros(60, int)).none_divisor == 1
    unsure = SiteOutputs(nothing, probabilities * np.float32(0.01), nothing[:, 0])
    assert head_of(knowing(np.ones(9, bool)), unsure, np.zeros(60, int)).none_divisor == MOST_DIVIDED


def test_unlabelled_images_of_another_stain_are_left_out_and_their_slides_stay_unlike(
    images: SiteImages, tmp_path: Path
) -> None:
    place = tmp_path / "unlabelled" / "S9"
    place.mkdir(parents=True)
    for number in range(60):
        pixels = np.asarray(draw(CELL_CLASSES[number % 8], np.random.default_rng((9, number)))).astype(float)
        factors = [0.7, 0.9, 0.6] if number < 20 else [1.2, 0.5, 0.3]
        stained = np.clip(255 - (255 - pixels) * factors, 0, 255).astype(np.uint8)
        Image.fromarray(stained).save(place / f"{number:02}.png")
    others = read_site_images(Settings(), tmp_path)
    cells = site_cells(only(images, [*images.images, *others.images]))
    alike, known = with_known_looks(cells, Settings(), lambda *_: None)
    names = {image.path.name for image in alike.unlabelled}
    usual, strange = ({f"{number:02}.png" for number in numbers} for numbers in (range(20), range(20, 60)))
    assert len(names & usual) >= 15
    assert not names & strange
    assert known is not None
    paths = [place / name for name in sorted(strange)]
    assert not compared(known, looks_of(paths, Path.read_bytes, Settings(), lambda *_: None)).is_alike
