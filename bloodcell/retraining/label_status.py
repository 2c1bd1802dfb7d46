"""Counts of the labels: cells of each class, people, contested cells, and what is new for a training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from bloodcell.storage.database import Database


@dataclass(frozen=True, slots=True)
class LabelledCells:
    """Cells with the same label.

    Attributes:
        state: confirmed, out_of_scope, contested.
        cell_class: One of the eight classes; None if out of scope or contested.
        sub_label: The finer code or the out-of-scope code; None if there is none or people differ.
    """

    state: str
    cell_class: str | None
    sub_label: str | None
    n_cells: int


@dataclass(frozen=True, slots=True)
class Labeller:
    """What one person has labelled."""

    labelled_by: str
    n_labels: int
    n_blind: int
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Labelled cells of one split.

    Attributes:
        split: training, validation or holdout; None for patients without a split.
    """

    split: str | None
    n_patients: int
    n_cells: int


@dataclass(frozen=True, slots=True)
class LabelStatus:
    """Counts of the labels.

    Attributes:
        n_labels: All labels ever given.
        n_cells: Labelled cells.
        n_contested: Contested cells among them.
        n_new_cells: Confirmed cells labelled since the newest snapshot; all of them if there is no snapshot.
        newest_at: Time of the newest label.
        dataset_digest: The newest snapshot.
    """

    n_labels: int
    n_cells: int
    n_contested: int
    n_new_cells: int
    newest_at: datetime | None
    dataset_digest: str | None
    classes: tuple[LabelledCells, ...]
    people: tuple[Labeller, ...]
    splits: tuple[SplitCount, ...]


def label_status(database: Database) -> LabelStatus:
    """Returns the counts of the labels."""
    with database.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        newest = connection.execute(sa.text(_NEWEST_DATASET)).one_or_none()
        until = {"until": newest.until_label_id if newest else 0}
        cells = connection.execute(sa.text(_CELLS), until).all()
        splits = connection.execute(sa.text(_SPLITS)).all()
        people = tuple(Labeller(*row) for row in connection.execute(sa.text(_PEOPLE)))
    return LabelStatus(
        n_labels=sum(person.n_labels for person in people),
        n_cells=sum(row.n_cells for row in cells),
        n_contested=sum(row.n_cells for row in cells if row.state == "contested"),
        n_new_cells=sum(row.n_new for row in cells if row.state == "confirmed"),
        newest_at=max((person.newest_at for person in people), default=None),
        dataset_digest=newest.dataset_digest if newest else None,
        classes=tuple(LabelledCells(*row[:4]) for row in cells),
        people=people,
        splits=tuple(SplitCount(*row) for row in splits),
    )


_NEWEST_DATASET: Final = """
SELECT dataset_digest, until_label_id FROM bloodcell.dataset ORDER BY until_label_id DESC, created_at DESC LIMIT 1
"""
_CELLS: Final = """
SELECT state, class, sub_label, count(*) AS n_cells, count(*) FILTER (WHERE label_id > :until) AS n_new
FROM bloodcell.current_label GROUP BY state, class, sub_label ORDER BY state, class, sub_label NULLS FIRST
"""
_SPLITS: Final = """
SELECT d.split, count(DISTINCT c.split_key) AS n_patients, count(*) AS n_cells
FROM bloodcell.current_label c LEFT JOIN bloodcell.data_split d USING (split_key)
GROUP BY d.split ORDER BY array_position(ARRAY['training', 'validation', 'holdout'], d.split)
"""
_PEOPLE: Final = """
SELECT labelled_by, count(*), count(*) FILTER (WHERE is_blind), max(labelled_at)
FROM bloodcell.label GROUP BY labelled_by ORDER BY count(*) DESC, labelled_by
"""
