"""Cells that a laboratory labels as out of scope are recognised by name from 20 labels on, and never called a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import TrainingDataError
from bloodcell.inference.model_output import calls_of
from bloodcell.inference.predicting import predict_all
from bloodcell.ingest import ingest_night
from bloodcell.presentation import percent_with_interval
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.promotion import promote
from bloodcell.registry.registered_models import register
from bloodcell.settings import Settings
from bloodcell.site.calibrating import calibrate
from bloodcell.site.fitted_variant import fit_variant
from bloodcell.site.site_cells import CLASS_OF_ITS_OWN, site_cells
from bloodcell.site.site_fitting import calls_by
from bloodcell.site.site_images import read_site_images
from bloodcell.site.site_report import report_site, site_page
from bloodcell.site.site_scale import SiteScale
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from bloodcell.training.image_folders import read_file
from tests.conftest import Command
from tests.ingest.night import NightFolder
from tests.site.test_calibrating import N_SLIDES, make_site
from tests.small_cells import draw


def blast(rng: np.random.Generator) -> Image.Image:
    """A cell of a colour that no class has: a lymphocyte's channels in another order."""
    return Image.fromarray(np.ascontiguousarray(np.asarray(draw("lymphocyte", rng))[:, :, [2, 0, 1]]))


def add_blasts(folder: Path, *, n_each: int, seed: int = 7, name: str = "BL") -> Path:
    """Writes FOLDER/BL/<slide>/*.png."""
    for slide in range(N_SLIDES):
        place = folder / name / f"S{slide}"
        place.mkdir(parents=True)
        for each in range(n_each):
            pixels = np.asarray(blast(np.random.default_rng((seed, 99, slide, each)))).astype(float)
            pixels = 255 - (255 - pixels) * [0.7, 0.9, 0.6] + slide
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(place / f"{each}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_blasts(make_site(tmp_path_factory.mktemp("site"), n_each=8), n_each=5)


@pytest.fixture(scope="module")
def knowing(folder: Path, svm_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The SVM variant, calibrated with 25 blasts."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("calibrated"))
    return calibrate(read_site_images(settings, folder), [svm_bundle], settings, site="Elsewhere")[0]


def test_new_blasts_are_named_and_other_cells_are_not(knowing: Bundle, tmp_path: Path) -> None:
    assert knowing.codes == ("BL",)
    new = read_site_images(Settings(), add_blasts(make_site(tmp_path, n_each=2, seed=8), n_each=3, seed=8))
    of_scope, outside = (
        predict_all([knowing], [each.image for each in part], read_file, Settings())[knowing.model_id]
        for part in (new.labelled, new.out_of_scope)
    )
    blasts, others = calls_of(knowing, outside), calls_of(knowing, of_scope)
    assert np.mean([code == "BL" for code in blasts.resembles]) > 0.7
    assert not set(blasts.called) & set(CELL_CLASSES)
    assert np.mean([code == "BL" for code in others.resembles]) < 0.05


def test_the_model_in_the_bundle_names_what_the_fitted_head_names(
    knowing: Bundle, folder: Path, svm_bundle: Bundle, tmp_path: Path
) -> None:
    cells = site_cells(read_site_images(Settings(), folder))
    scale = SiteScale(None, knowing.manifest.field_px)
    made = fit_variant(svm_bundle, cells, scale, Settings(data_dir=tmp_path), lambda *_: None)
    found = predict_all([knowing], [image.image for image in cells.labelled], read_file, Settings())[knowing.model_id]
    judged, calls = calls_by(made.fit, made.labelled)
    assert found.of_codes is not None
    np.testing.assert_allclose(found.of_codes, judged.of_codes, atol=1e-3)
    assert calls_of(knowing, found).resembles == calls.resembles


def test_the_page_says_how_well_the_code_is_recognised(folder: Path, svm_bundle: Bundle, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    found = report_site(read_site_images(settings, folder), [svm_bundle], settings, site="Elsewhere")
    [figures] = found.fitted[0].codes
    assert (figures.code, figures.n_cells) == ("BL", 25)
    assert figures.held_back is not None and figures.named is not None
    assert figures.held_back.value >= figures.named.value > 0.7
    page = site_page(found)
    assert "Codes out of scope that the model knows" in page
    assert percent_with_interval(figures.named) in page


def test_with_too_few_labels_a_code_has_no_name_and_undecided_codes_never_have(tmp_path: Path) -> None:
    few = make_site(tmp_path / "few")
    for seed, (name, n) in enumerate((("BL", 3), ("NC", 5), ("out_of_scope:red_cells", 4))):
        add_blasts(few, n_each=n, name=name, seed=seed)
    cells = site_cells(read_site_images(Settings(), few))
    assert cells.codes == ("red_cells",)
    assert CLASS_OF_ITS_OWN == 4 * N_SLIDES
    assert len(cells.out_of_scope) == 3 * N_SLIDES + 5 * N_SLIDES


@pytest.mark.parametrize(
    ("name", "said"),
    [("out_of_scope:ig", "cannot be out of scope"), ("out_of_scope:SNE", "cannot be"), ("out_of_scope:<b>", "letters")],
)
def test_a_code_that_means_a_class_or_is_no_plain_name_is_refused(name: str, said: str, tmp_path: Path) -> None:
    add_blasts(make_site(tmp_path, n_each=1), n_each=1, name=name)
    with pytest.raises(TrainingDataError, match=said):
        read_site_images(Settings(), tmp_path)


def test_a_code_of_the_analyser_is_that_code_with_and_without_the_prefix(tmp_path: Path) -> None:
    add_blasts(add_blasts(make_site(tmp_path, n_each=1), n_each=1, name="out_of_scope:bl"), n_each=2, seed=8, name="BL")
    assert read_site_images(Settings(), tmp_path).counts()["BL"] == 3 * N_SLIDES


def test_a_night_says_which_cells_are_like_the_blasts_of_the_laboratory(
    settings: Settings, database: Database, knowing: Bundle, svm_bundle: Bundle, main_here: Command, tmp_path: Path
) -> None:
    store = Store.of(settings)
    with database.begin() as connection:
        register(connection, store, svm_bundle, by="test")
        register(connection, store, knowing, by="test")
        promote(connection, store, knowing.model_id, by="test", reason="test", evidence={})
    night = NightFolder(settings.drops)
    made = add_blasts(make_site(tmp_path / "made", n_each=1, classes=("ig", "neutrophil"), seed=9), n_each=2, seed=9)
    slide, blasts = night.path / "S1", set()
    slide.mkdir()
    for number, path in enumerate(sorted(made.rglob("*.png"))):
        moved = path.rename(slide / f"NC_{number:08d}.png")
        if "BL" in path.parts:
            blasts.add(moved.name)
    night.complete()
    ingest_night(night.path, settings)
    done = main_here(
        "classify",
        "--pending",
        BLOODCELL_DATA_DIR=str(settings.data_dir),
        BLOODCELL_DATABASE_URL=str(settings.plain_database_url),
    )
    assert done.returncode == 0, done.stderr
    with database.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT file_name, unclassified_reason, resembles FROM bloodcell.cell_result WHERE is_reported")
        ).all()
        queue = connection.execute(sa.text("SELECT file_name, resembles FROM bloodcell.review_queue")).all()
    named = [row for row in rows if row.resembles]
    assert {row.unclassified_reason for row in named} == {"novel"}
    assert {row.resembles for row in named} == {"BL"}
    assert len([row for row in named if row.file_name in blasts]) > 0.7 * 2 * N_SLIDES
    assert len([row for row in named if row.file_name not in blasts]) <= 1
    assert {(row.file_name, row.resembles) for row in named} <= {tuple(row) for row in queue}
