"""What a data set contains, and what is left out of it for which reason."""

from __future__ import annotations

import json
import shutil
from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.ingest import ingest_night
from bloodcell.retraining.snapshot import Snapshot, stored_images, take_snapshot, training_set
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store
from tests.laboratory import Laboratory
from tests.retraining.nights import label_cells, make_night

PATIENTS = [f"P{number}" for number in range(8)]


def snapshot(settings: Settings) -> Snapshot:
    database = open_database(settings)
    with recorded_run(database, "snapshot") as run, database.begin() as connection:
        return take_snapshot(connection, settings, run.run_id)


def images(settings: Settings, digest: str) -> list[sa.Row[*tuple[Any, ...]]]:
    with open_database(settings).connect() as connection:
        return list(
            connection.execute(
                sa.text("SELECT * FROM bloodcell.training_image WHERE dataset_digest = :d ORDER BY sha256"),
                {"d": digest},
            )
        )


def first_slide_again(
    settings: Settings, truth: dict[tuple[str, str], str], *, patient: str
) -> dict[tuple[str, str], str]:
    """Ingests the first slide's images a second time, as slide X1 of a patient; returns the classes of its cells."""
    night = settings.drops / "2026-03-15"
    shutil.copytree(settings.drops / "2026-03-14" / "20260314-0", night / "X1")
    (night / "X1" / "slide.json").write_text(json.dumps({"barcode": "X1", "patient_key": patient}))
    (night / ".complete").touch()
    ingest_night(night, settings)
    return {("X1", name): cell_class for (barcode, name), cell_class in truth.items() if barcode == "20260314-0"}


def test_every_labelled_image_is_in_the_data_set_once_in_its_patients_split(settings: Settings) -> None:
    truth = make_night(settings, patients=PATIENTS, cells_per_class=2)
    label_cells(settings, truth)
    taken = snapshot(settings)
    rows = images(settings, taken.dataset_digest)
    assert {(row.barcode, row.file_name): row._mapping["class"] for row in rows} == truth
    assert taken.left_out == {}
    assert {split: taken.n_images(split) for split in ("training", "validation", "holdout")} == {
        "training": 5 * 16, "validation": 16, "holdout": 2 * 16
    }  # fmt: skip
    splits = {(row.split_key, row.split) for row in rows}
    assert len(splits) == len(PATIENTS)


def test_the_same_labels_give_the_same_data_set_and_more_labels_give_another(settings: Settings) -> None:
    truth = make_night(settings, patients=PATIENTS, cells_per_class=1)
    half = dict(list(truth.items())[: len(truth) // 2])
    label_cells(settings, half)
    first = snapshot(settings)
    assert snapshot(settings) == first
    label_cells(settings, dict(set(truth.items()) - set(half.items())))
    second = snapshot(settings)
    assert second.dataset_digest != first.dataset_digest
    assert len(images(settings, first.dataset_digest)) == len(half)


def test_a_data_set_whose_list_was_removed_has_its_images_again_when_its_labels_come_back(settings: Settings) -> None:
    truth = make_night(settings, patients=PATIENTS, cells_per_class=1)
    label_cells(settings, truth)
    first = snapshot(settings)
    (trained, *_) = [row for row in images(settings, first.dataset_digest) if row.split == "training"]
    one = {(trained.barcode, trained.file_name): truth[trained.barcode, trained.file_name]}
    label_cells(settings, one, labelled_as=lambda cell_class: None)
    assert snapshot(settings).dataset_digest != first.dataset_digest
    with open_database(settings).begin() as connection:
        forget = sa.text("SELECT bloodcell.forget_snapshot(:digest)")
        assert connection.scalar(forget, {"digest": first.dataset_digest}) == len(truth)
    label_cells(settings, one, by="chief", is_adjudication=True)
    again = snapshot(settings)
    assert again.dataset_digest == first.dataset_digest
    assert len(images(settings, again.dataset_digest)) == sum(again.counts.values()) == len(truth)


def test_contested_cells_are_left_out_until_adjudicated_and_smudges_are_out_of_scope(settings: Settings) -> None:
    truth = make_night(settings, patients=PATIENTS, cells_per_class=1)
    smudge = dict(list(truth.items())[10:11])
    label_cells(settings, smudge, labelled_as=lambda cell_class: None)
    label_cells(settings, dict(truth.items() - smudge.items()))
    disputed = dict(list(truth.items())[:3])
    label_cells(
        settings, disputed, by="dr.b", labelled_as=lambda cell_class: "ig" if cell_class != "ig" else "monocyte"
    )
    taken = snapshot(settings)
    assert taken.left_out == {"contested": 3}
    assert taken.n_images("out_of_scope") == 1
    label_cells(settings, disputed, by="chief", is_adjudication=True)
    assert snapshot(settings).left_out == {}


def test_labels_of_chosen_cells_train_and_never_judge(settings: Settings) -> None:
    settings = settings.model_copy(update={"sample_cells": 0})
    truth = make_night(settings, patients=PATIENTS, cells_per_class=2)
    of = {
        patient: {cell: truth[cell] for cell in truth if cell[0].endswith(f"-{n}")}
        for n, patient in enumerate(PATIENTS)
    }
    # of each of two patients half of the cells are read blind; all others were chosen, and seen with their calls
    read_blind = {patient: dict(list(of[patient].items())[:8]) for patient in PATIENTS[:2]}
    with open_database(settings).connect() as connection:
        found = connection.execute(sa.text("SELECT barcode, file_name, cell_id FROM bloodcell.cell_provenance"))
        ids = {(row.barcode, row.file_name): row.cell_id for row in found}
    Laboratory(open_database(settings), date(2026, 3, 20)).sample(
        [ids[cell] for cells in read_blind.values() for cell in cells]
    )
    for cells in read_blind.values():
        label_cells(settings, cells)
    for patient, cells in of.items():
        chosen = dict(cells.items() - read_blind.get(patient, {}).items())
        label_cells(settings, chosen, is_blind=False)
    taken = snapshot(settings)
    judged = {(row.barcode, row.file_name) for row in images(settings, taken.dataset_digest) if row.split == "holdout"}
    assert judged == {cell for cells in read_blind.values() for cell in cells}
    assert taken.left_out == {"patient judges models, cell not read blind from the random sample": 2 * 8}
    assert taken.n_images("training") + taken.n_images("validation") == 6 * 16


def test_whether_a_patient_judges_does_not_depend_on_what_was_labelled_first(settings: Settings) -> None:
    patients = [f"P{number}" for number in range(40)]
    truth = make_night(settings, patients=patients, cells_per_class=1)
    # of every second patient cells of the review queue were labelled long before the sample was read
    early = {cell: said for cell, said in truth.items() if int(cell[0].rpartition("-")[2]) % 2}
    label_cells(settings, early, by="dr.b", is_blind=False)
    snapshot(settings)
    label_cells(settings, truth)
    snapshot(settings)
    with open_database(settings).connect() as connection:
        found = connection.execute(
            sa.text("SELECT split_key FROM bloodcell.patient_split WHERE split IN ('holdout', 'lockbox')")
        )
        judging = {row.split_key for row in found}
    assert len(judging) == 10
    assert len({key for key in judging if int(key[1:]) % 2}) == 5


def test_without_a_blind_reading_nothing_judges(settings: Settings) -> None:
    settings = settings.model_copy(update={"sample_cells": 0})
    truth = make_night(settings, patients=PATIENTS, cells_per_class=1)
    label_cells(settings, truth, is_blind=False)
    label_cells(settings, dict(list(truth.items())[:2]), is_blind=False, labelled_as=lambda cell_class: None)
    taken = snapshot(settings)
    assert (taken.n_images("holdout"), taken.n_images("lockbox"), taken.n_images("out_of_scope")) == (0, 0, 0)
    assert taken.left_out == {"out of scope, not read blind from the random sample": 2}


def test_an_image_of_two_patients_counts_only_for_the_first(settings: Settings) -> None:
    truth = make_night(settings, patients=PATIENTS, cells_per_class=1)
    label_cells(settings, truth)
    again = first_slide_again(settings, truth, patient="P99")
    label_cells(settings, again)
    taken = snapshot(settings)
    assert taken.left_out == {"image first seen from another patient": 8}
    assert len(images(settings, taken.dataset_digest)) == len(truth)


def test_an_image_with_two_classes_is_left_out(settings: Settings) -> None:
    truth = make_night(settings, patients=PATIENTS, cells_per_class=1)
    label_cells(settings, truth)
    again = first_slide_again(settings, truth, patient="P0")
    label_cells(settings, again, labelled_as=lambda cell_class: "ig" if cell_class == "monocyte" else cell_class)
    taken = snapshot(settings)
    assert taken.left_out == {"image already counted": 7, "image labelled differently elsewhere": 2}


def test_a_patient_key_that_arrives_late_moves_no_image_to_another_split(settings: Settings) -> None:
    truth = make_night(settings, patients=PATIENTS, cells_per_class=1)
    database = open_database(settings)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.slide SET patient_key = NULL WHERE patient_key = 'P7'"))
    label_cells(settings, truth)
    first = snapshot(settings)
    with database.connect() as connection:
        found = connection.execute(sa.text("SELECT split_key, split FROM bloodcell.patient_split"))
        splits = {row.split_key: row.split for row in found}
    other = next(key for key, split in splits.items() if split != splits["slide:20260314-7"])
    with database.begin() as connection:
        connection.execute(
            sa.text("UPDATE bloodcell.slide SET patient_key = :k WHERE barcode = '20260314-7'"), {"k": other}
        )
    second = snapshot(settings)
    assert second.left_out == {"image already in another split": 8}
    before = {row.sha256: row.split for row in images(settings, first.dataset_digest)}
    assert all(before[row.sha256] == row.split for row in images(settings, second.dataset_digest))


def test_training_images_include_no_holdout_image(settings: Settings) -> None:
    label_cells(settings, make_night(settings, patients=PATIENTS, cells_per_class=1))
    taken = snapshot(settings)
    store = Store.of(settings)
    with open_database(settings).connect() as connection:
        training = training_set(connection, store, taken.dataset_digest)
        holdout = stored_images(connection, taken.dataset_digest, "holdout")
    seen = {image.sha256 for image in training.training + training.validation}
    assert len(holdout) == 16
    assert not seen & {image.sha256 for image in holdout}
    assert training.read(training.training[0])[:4] == b"\x89PNG"
    assert {image.cell_class for image in training.training} == set(CELL_CLASSES)


def test_a_data_set_cannot_be_changed(settings: Settings) -> None:
    label_cells(settings, make_night(settings, patients=PATIENTS, cells_per_class=1))
    snapshot(settings)
    with open_database(settings).begin() as connection, pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        connection.execute(sa.text("UPDATE bloodcell.dataset_image SET class = 'ig'"))


def test_without_labels_the_data_set_is_empty(settings: Settings) -> None:
    make_night(settings, patients=["P1"], cells_per_class=1)
    taken = snapshot(settings)
    assert (taken.counts, taken.until_label_id) == ({}, 0)
    assert taken.missing_classes("training", 1) == [f"{cell_class} (0)" for cell_class in CELL_CLASSES]
