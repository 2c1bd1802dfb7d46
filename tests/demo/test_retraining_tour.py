"""The labels and the settings of the retraining demo; `make demo-retrain` shows that it works from end to end."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

from bloodcell.demo.retraining_tour import N_READ_BLIND, N_SLIDES, PATHOLOGIST, SETTINGS, write_label_file
from bloodcell.drawing.drops import SMEARS, make_drop
from bloodcell.labels.csv_rows import CsvLabels
from bloodcell.labels.label_outcomes import RowErrors
from bloodcell.retraining.splitting import splits_of
from bloodcell.settings import Settings


def test_the_labels_are_the_drawn_classes_and_one_slide_of_each_finding_is_read_blind(tmp_path: Path) -> None:
    drop = make_drop(tmp_path / "drops", night=date(2026, 3, 2), n_slides=8, cells_per_slide=6)
    labels, errors = CsvLabels(write_label_file(drop, tmp_path / "labels")), RowErrors()

    rows = list(labels.read(errors, lambda *_: None))

    assert errors.n == 0
    with drop.truth.open(newline="") as file:
        truth = {tuple(row["path"].split("/")[1:]): row["class"] for row in csv.DictReader(file)}
    assert {(row.barcode, row.file_name): row.meaning.cell_class for row in rows} == truth
    assert {row.labelled_by for row in rows} == {PATHOLOGIST}
    blind = {row.barcode for row in rows if row.is_blind}
    assert blind == {slide.barcode for slide in drop.slides[:N_READ_BLIND]}
    assert len({slide.finding for slide in drop.slides[:N_READ_BLIND]}) == len(SMEARS)


def test_the_slides_that_are_read_blind_judge_and_every_split_has_each_finding(tmp_path: Path) -> None:
    drop = make_drop(tmp_path / "drops", night=date(2026, 3, 2), n_slides=N_SLIDES, cells_per_slide=6)
    settings = Settings(**SETTINGS)
    finding = {slide.patient_key: slide.finding for slide in drop.slides}
    splits = splits_of(dict.fromkeys(finding, True), {}, settings.holdout_fraction, settings.validation_fraction)
    read_blind = {slide.patient_key for slide in drop.slides[:N_READ_BLIND]}
    assert {key for key, split in splits.items() if split in ("holdout", "lockbox")} == read_blind
    for name in ("holdout", "validation", "training"):
        assert len({finding[key] for key, split in splits.items() if split == name}) == len(SMEARS), name


def test_the_demos_settings_are_valid_and_the_blind_slides_fill_the_hold_out() -> None:
    settings = Settings(**SETTINGS)
    assert settings.approver_names == (PATHOLOGIST,)
    assert round(settings.holdout_fraction * N_SLIDES) == N_READ_BLIND
