"""How the labels stand: how many cells of each class, who gave them, what is contested, what is new for a training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from bloodcell.storage.database import Database


@dataclass(frozen=True, slots=True)
class LabelledCells:
    """Cells that are labelled alike.

    Attributes:
        state: confirmed, out_of_scope, contested.
        cell_class: One of the eight groups; None out of scope, and where contested.
        sub_label: The finer code, or the code outside the groups; None where there is none or people differ.
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
    """Labelled cells on one split of the split.

    Attributes:
        split: training, validation, holdout; None: of patients that have none yet.
    """

    split: str | None
    n_patients: int
    n_cells: int


@dataclass(frozen=True, slots=True)
class LabelStatus:
    """How the labels stand.

    Attributes:
        n_labels: Every label ever given.
        n_cells: Labelled cells.
        n_contested: Of them those over which people disagree.
        n_new_cells: Confirmed cells with a label that came after the newest snapshot; all, where there is none.
        newest_at: When the newest label was given.
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
    """Returns how the labels stand."""
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
