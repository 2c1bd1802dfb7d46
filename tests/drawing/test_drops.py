"""Drawn nights and training folders: their layout, their truth, and byte-for-byte repetition."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES, LEUCOCYTE_CLASSES, class_of_code
from bloodcell.drawing.drops import CODES, MISTAKEN_CODES, SMEARS, _names, _planned, draw_folder, make_drop
from bloodcell.errors import ConfigurationError
from bloodcell.inbox import read_drops
from bloodcell.settings import DROP_PATTERN, Settings

NIGHT = date(2026, 11, 21)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth_rows(truth: Path) -> list[dict[str, str]]:
    with truth.open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def leucocytes(n_cells: dict[str, int]) -> int:
    return sum(n_cells[cell_class] for cell_class in LEUCOCYTE_CLASSES)


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for copy in ("first", "second"):
        make_drop(tmp_path / copy, night=NIGHT, n_slides=2, cells_per_slide=6, seed=4)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


@pytest.mark.parametrize(("night", "seed"), [(date(2026, 11, 22), 4), (NIGHT, 5)])
def test_another_night_or_seed_shares_no_image_barcode_or_patient(tmp_path: Path, night: date, seed: int) -> None:
    one = make_drop(tmp_path / "one", night=NIGHT, n_slides=2, cells_per_slide=6, seed=4)
    other = make_drop(tmp_path / "other", night=night, n_slides=2, cells_per_slide=6, seed=seed)
    images = [{d for name, d in digests(drop.folder).items() if name.endswith(".jpg")} for drop in (one, other)]
    assert len(images[0]) == len(images[1]) == 12
    assert not images[0] & images[1]
    for of in ("barcode", "patient_key"):
        assert len({getattr(slide, of) for slide in (*one.slides, *other.slides)}) == 4


def test_the_truth_accounts_for_every_image_once_with_its_class(tmp_path: Path) -> None:
    drop = make_drop(tmp_path, night=NIGHT, n_slides=3, cells_per_slide=8)
    rows = truth_rows(drop.truth)
    assert drop.truth == tmp_path / "2026-11-21.truth.csv"
    assert read_drops(Settings(drops_dir=tmp_path)).problems == {}
    assert list(rows[0]) == ["path", "class", "expect"]
    written = sorted(str(path.relative_to(tmp_path)) for path in drop.folder.rglob("*.jpg"))
    assert sorted(row["path"] for row in rows) == written
    assert {row["expect"] for row in rows} == {"cell"}
    for slide in drop.slides:
        of_slide = Counter(row["class"] for row in rows if f"/{slide.barcode}/" in row["path"])
        assert of_slide == Counter({cell_class: n for cell_class, n in slide.n_cells.items() if n})
    assert drop.n_cells == len(rows) == 24


def test_every_image_path_fits_the_drop_pattern_and_every_image_differs(tmp_path: Path) -> None:
    drop = make_drop(tmp_path, night=NIGHT, n_slides=2, cells_per_slide=10)
    images = {name: digest for name, digest in digests(drop.folder).items() if name.endswith(".jpg")}
    assert all(re.fullmatch(DROP_PATTERN, name) for name in images)
    assert len(set(images.values())) == len(images)


def test_a_slide_carries_its_own_record_and_no_identity(tmp_path: Path) -> None:
    drop = make_drop(tmp_path, night=NIGHT, n_slides=2, cells_per_slide=2)
    for slide in drop.slides:
        record = json.loads((drop.folder / slide.barcode / "slide.json").read_text())
        assert set(record) == {"barcode", "order_id", "analyser", "patient_key", "acquired_at"}
        assert (record["barcode"], record["patient_key"]) == (slide.barcode, slide.patient_key)
        assert record["acquired_at"].startswith("2026-11-21T20:0")


def test_the_complete_marker_comes_after_everything_else(tmp_path: Path) -> None:
    """A night stopped at its last image has no marker; in a finished night nothing is newer than the marker."""
    n_drawn = 0

    def stop_at_the_last() -> None:
        nonlocal n_drawn
        n_drawn += 1
        if n_drawn == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_drop(tmp_path / "cut", night=NIGHT, n_slides=2, cells_per_slide=2, on_cell=stop_at_the_last)
    assert len(list((tmp_path / "cut" / "2026-11-21").rglob("*.jpg"))) == 4
    assert not (tmp_path / "cut" / "2026-11-21" / ".complete").exists()

    drop = make_drop(tmp_path / "whole", night=NIGHT, n_slides=2, cells_per_slide=2)
    marked = (drop.folder / ".complete").stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns <= marked for path in (drop.truth, *drop.folder.rglob("*")))


def test_an_existing_night_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    make_drop(tmp_path, night=NIGHT, n_slides=1, cells_per_slide=2)
    before = digests(tmp_path)
    with pytest.raises(ConfigurationError, match="2026-11-21 is not empty"):
        make_drop(tmp_path, night=NIGHT, n_slides=1, cells_per_slide=2, seed=1)
    assert digests(tmp_path) == before


def test_an_empty_night_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "2026-11-21").mkdir()
    assert make_drop(tmp_path, night=NIGHT, n_slides=1, cells_per_slide=2).n_cells == 2


@pytest.mark.parametrize("number", range(12))
def test_a_slide_of_120_cells_has_at_least_100_leucocytes(number: int) -> None:
    for seed in range(30):
        slide, classes = _planned(NIGHT, number, 120, seed)
        assert len(classes) == sum(slide.n_cells.values()) == 120
        assert leucocytes(slide.n_cells) >= 100


@pytest.mark.parametrize("seed", range(30))
def test_the_three_slides_of_a_demo_differ_in_what_they_show(seed: int) -> None:
    ordinary, eosinophilia, left_shift = (_planned(NIGHT, number, 120, seed)[0] for number in range(3))
    assert [ordinary.finding, eosinophilia.finding, left_shift.finding] == [smear.finding for smear in SMEARS[:3]]
    assert eosinophilia.n_cells["eosinophil"] >= 15 > ordinary.n_cells["eosinophil"]
    assert left_shift.n_cells["ig"] >= 9 > ordinary.n_cells["ig"]
    assert left_shift.n_cells["erythroblast"] >= 1


def test_the_analysers_code_is_right_for_about_85_percent() -> None:
    classes = list(CELL_CLASSES) * 250
    names = list(_names(classes, NIGHT, 0, 3))
    n_right = sum(
        class_of_code(name.split("_")[0]) == cell_class for name, cell_class in zip(names, classes, strict=True)
    )
    assert 0.82 < n_right / len(classes) < 0.88
    assert len({name.split("_")[1] for name in names}) == len(names)


def test_right_codes_belong_to_their_class_and_mistaken_ones_do_not() -> None:
    for cell_class in CELL_CLASSES:
        assert {class_of_code(code) for code in CODES[cell_class]} == {cell_class}
        assert cell_class not in {class_of_code(code) for code in MISTAKEN_CODES[cell_class]}


def test_a_training_folder_holds_each_class_and_reveals_none_by_size_or_name(tmp_path: Path) -> None:
    n_told = []
    n_images = draw_folder(tmp_path / "images", cells_per_class=3, seed=1, on_cell=lambda: n_told.append(1))
    paths = sorted((tmp_path / "images").glob("*/*.jpg"))
    assert n_images == len(paths) == len(n_told) == 24
    assert Counter(path.parent.name for path in paths) == Counter(dict.fromkeys(CELL_CLASSES, 3))
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (360, 363)
    assert all(re.fullmatch(r"\d{6}\.jpg", path.name) for path in paths)
    in_order = [path.parent.name for path in sorted(paths, key=lambda path: path.name)]
    assert sum(one != other for one, other in pairwise(in_order)) > 12


def test_a_training_folder_repeats_and_shares_no_image_with_a_drop(tmp_path: Path) -> None:
    for copy in ("first", "second"):
        draw_folder(tmp_path / copy, cells_per_class=1, seed=0)
    make_drop(tmp_path / "drops", night=NIGHT, n_slides=1, cells_per_slide=8, seed=0)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert not set(digests(tmp_path / "first").values()) & set(digests(tmp_path / "drops").values())


def test_a_training_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        draw_folder(tmp_path, cells_per_class=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
