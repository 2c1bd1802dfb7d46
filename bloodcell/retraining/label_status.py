"""Counts of the labels: by class and by person, contested cells, and cells that are new for a training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bloodcell.storage.database import Database
from bloodcell.storage.statements import load_statements

_SQL: Final = load_statements("retraining/label_status.sql")


@dataclass(frozen=True, slots=True)
class LabelledCells:
    """Cells with the same label.

    Attributes:
        state: confirmed, out_of_scope, contested.
        cell_class: One of the eight classes; None if out of scope or contested.
        sub_label: The finer code or the out-of-scope code; None if there is none or people disagree.
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
        split: training, validation, holdout or lockbox; None for patients without a split.
    """

    split: str | None
    n_patients: int
    n_cells: int


@dataclass(frozen=True, slots=True)
class SampleStatus:
    """The random samples of all nights, which alone judge models.

    Attributes:
        n_drawn: Cells drawn.
        n_read: Of these, read blind.
        n_waiting: Cells that wait for a first or a second blind reading.
        n_contested: Cells on which blind readers disagree.
    """

    n_drawn: int
    n_read: int
    n_waiting: int
    n_contested: int


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
    sample: SampleStatus


def label_status(database: Database) -> LabelStatus:
    """Returns the counts of the labels."""
    with database.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        newest = connection.execute(_SQL["newest_dataset"]).one_or_none()
        until = {"until": newest.until_label_id if newest else 0}
        cells = connection.execute(_SQL["cells"], until).all()
        splits = connection.execute(_SQL["splits"]).all()
        sample = SampleStatus(*connection.execute(_SQL["sample"]).one())
        people = tuple(Labeller(*row) for row in connection.execute(_SQL["people"]))
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
        sample=sample,
    )
