"""The page of a site: before and after, a plain verdict, what to label next; without labels, what can be known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.registry.bundle import Bundle
from bloodcell.settings import Settings
from bloodcell.site.site_images import SiteImages, read_site_images
from bloodcell.site.site_report import SiteReport, report_site, site_page
from tests.site.test_calibrating import make_site


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SiteImages:
    folder = make_site(tmp_path_factory.mktemp("site"))
    for number, path in enumerate(sorted((folder / "platelet").rglob("*.png"))[:6]):
        place = folder / "BL" / f"S{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / f"{number}.png")
    return read_site_images(Settings(), folder)


def report(images: SiteImages, bundles: list[Bundle], folder: Path) -> SiteReport:
    return report_site(images, bundles, Settings(data_dir=folder), site="Hospital <A>")


def test_the_page_has_before_and_after_each_class_and_the_verdict(
    images: SiteImages, svm_bundle: Bundle, tuned_bundle: Bundle, tmp_path: Path
) -> None:
    found = report(images, [svm_bundle, tuned_bundle], tmp_path)
    page = site_page(found)
    assert "Hospital &lt;A&gt;" in page
    for made in found.fitted:
        assert made.comparison.candidate is not None and made.comparison.champion is not None
        assert made.comparison.candidate.accuracy.value > made.comparison.champion.accuracy.value
        assert made.comparison.candidate.held_back is not None
        assert f"{100 * made.comparison.candidate.accuracy.value:.1f}" in page
    assert "Before and after calibration" in page
    assert page.count("data:image/png;base64,") >= 3
    assert "The images look unlike the training images" in page


def test_it_says_what_to_label_next(images: SiteImages, svm_bundle: Bundle, tmp_path: Path) -> None:
    classes = {each.cell_class: each for each in report(images, [svm_bundle], tmp_path).classes}
    assert (classes["neutrophil"].n_cells, classes["neutrophil"].next_step) == (15, "10 cells more")
    assert (classes["BL"].n_cells, classes["BL"].n_slides) == (6, 3)
    assert classes["BL"].next_step == "14 cells more, of 2 slides more"


def test_without_labels_it_shows_what_is_known_and_that_nothing_may_be_used(
    images: SiteImages, svm_bundle: Bundle, tmp_path: Path
) -> None:
    bare = replace(images, images=tuple(replace(image, label=None) for image in images.images))
    found = report(bare, [svm_bundle], tmp_path)
    page = site_page(found)
    assert not found.fitted
    assert found.uncalibrated[0].n_cells == len(images.images)
    assert "Must not be used" in page
    assert "Too few labelled cells to calibrate" in page
    assert "How the images look" in page
    assert all(each.next_step == "25 cells more, of 5 slides more" for each in found.classes[: len(CELL_CLASSES)])
