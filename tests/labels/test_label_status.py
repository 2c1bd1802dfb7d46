"""Counts of the labels."""

from __future__ import annotations

import sqlalchemy as sa

from bloodcell.retraining.label_status import LabelledCells, LabelStatus, SampleStatus, SplitCount, label_status
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from tests.labels.conftest import AT, INSTANT, Labelled
from tests.laboratory import Laboratory


def test_without_labels_every_count_is_zero(database: Database) -> None:
    assert label_status(database) == LabelStatus(0, 0, 0, 0, None, None, (), (), (), SampleStatus(0, 0, 0, 0))


def test_labels_are_counted_by_class_person_and_split(
    laboratory: Laboratory, cells: list[int], labelled: Labelled, database: Database
) -> None:
    laboratory.cells(laboratory.slide("S2", patient_key=None), ["LY"], names=["x.jpg"])
    labelled(
        f"S1,0.jpg,SNE,anna,{AT},1",
        f"S1,1.jpg,SNE,anna,{AT},0",
        f"S1,2.jpg,ig,anna,{AT},0",
        f"S1,3.jpg,BL,anna,{AT},0",
        f"S1,4.jpg,LY,anna,{AT},0",
        f"S1,4.jpg,MO,ben,{AT},1",
        f"S2,x.jpg,PMY,ben,{AT},1",
        header="slide,file,label,labelled_by,labelled_at,blind",
    )
    with database.begin() as connection:
        row = {"split": "holdout", "is_blind": False, "run_id": laboratory.run_id}
        connection.execute(tables.data_split.insert().values(split_key="p-17", **row))
        until = connection.scalar(sa.text("SELECT label_id FROM bloodcell.label WHERE sub_label = 'BL'"))
        counts = dict.fromkeys(("n_training", "n_validation", "n_holdout", "n_out_of_scope"), 0)
        for digest, at in (("a" * 64, 0), ("b" * 64, until)):
            snapshot: dict[str, object] = {
                "dataset_digest": digest,
                "until_label_id": at,
                "left_out": {},
                "run_id": laboratory.run_id,
            }
            connection.execute(tables.dataset.insert().values(**snapshot, **counts))
    found = label_status(database)
    assert (found.n_labels, found.n_cells, found.n_contested) == (7, 6, 1)
    assert (found.newest_at, found.dataset_digest) == (INSTANT, "b" * 64)
    assert (
        found.n_new_cells == 1
    )  # labels are numbered by cell; among those after the BL, the LY and the MO contest each other
    assert found.classes == (
        LabelledCells("confirmed", "ig", None, 1),
        LabelledCells("confirmed", "ig", "PMY", 1),
        LabelledCells("confirmed", "neutrophil", "SNE", 2),
        LabelledCells("contested", None, None, 1),
        LabelledCells("out_of_scope", None, "BL", 1),
    )
    assert [(p.labelled_by, p.n_labels, p.n_blind, p.newest_at) for p in found.people] == [
        ("anna", 5, 1, INSTANT),
        ("ben", 2, 2, INSTANT),
    ]
    assert found.splits == (SplitCount("holdout", 1, 5), SplitCount(None, 1, 1))
