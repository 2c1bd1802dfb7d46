"""The labels of a moment as a data set: every image with its split and class, under one digest, never changed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage, TrainingSet
from bloodcell.retraining.splitting import assign_splits
from bloodcell.site.site_cells import MIN_LABELLED
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.settings import Settings
    from bloodcell.storage.store import Store

_SQL: Final = load_statements("retraining/snapshot.sql")

RULE: Final = "by patient, frozen at first use (data_split); an image belongs to the patient it came from first"

_MIN_TRAINING: Final = 2
"""Training images of each class: with fewer, the SVM's cross-validation has no folds."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A data set.

    Attributes:
        dataset_digest: sha256 over every image's digest, split and class.
        counts: (split, class) -> images; the class of images out of scope is None.
        left_out: Reason -> labelled cells that are not in the data set.
        until_label_id: The newest label that was taken into account.
    """

    dataset_digest: str
    counts: Mapping[tuple[str, str | None], int]
    left_out: Mapping[str, int]
    until_label_id: int

    def n_images(self, split: str) -> int:
        """Returns the number of images of a split."""
        return sum(n for (of_split, _), n in self.counts.items() if of_split == split)

    def missing_classes(self, split: str, n_required: int) -> list[str]:
        """Returns the classes with fewer than `n_required` images in a split, each with its number."""
        numbers = {cell_class: self.counts.get((split, cell_class), 0) for cell_class in CELL_CLASSES}
        return [f"{cell_class} ({n:,})" for cell_class, n in numbers.items() if n < n_required]

    @property
    def shortage(self) -> str | None:
        """Why no model can be trained on the data set, None if one can."""
        if missing := self.missing_classes("training", _MIN_TRAINING):
            return f"Too few training images, {_MIN_TRAINING} of each class are needed: {', '.join(missing)}."
        if missing := self.missing_classes("validation", 1):
            return f"No validation image of: {', '.join(missing)}. Cells of more patients have to be labelled."
        return None

    @property
    def shortage_for_site(self) -> str | None:
        """Why no model can be calibrated on the data set, None if one can, which needs few labels."""
        numbers = [
            n
            for cell_class in CELL_CLASSES
            if (n := sum(self.counts.get((split, cell_class), 0) for split in ("training", "validation")))
        ]
        if sum(numbers) >= MIN_LABELLED and len(numbers) > 1:
            return None
        return (
            f"Too few labelled images to calibrate: {sum(numbers):,} in {len(numbers)} of the eight classes; "
            f"{MIN_LABELLED} in two or more classes are needed, better 25 of each class."
        )


def take_snapshot(connection: sa.Connection, settings: Settings, run_id: uuid.UUID) -> Snapshot:
    """Stores the data set of the current labels and returns it; the same data set is stored only once.

    In hold-out and lockbox, and among cells out of scope, there are only blind readings of the random sample. Contested
    cells are left out, and so is an image whose cells are labelled differently. An image that occurs in the
    slides of several patients counts for the patient whose cell came first. An image that an earlier data set had in
    another split is left out, too: no image is ever in two splits.

    Args:
        connection: In a transaction.
        settings: The shares of the splits.
        run_id: The run that takes the snapshot.
    """
    assign_splits(connection, settings, run_id)
    for name in ("collect_labels", "judge", "leave_out_other_splits"):
        connection.execute(_SQL[name])
    until: int = connection.scalar(_SQL["newest_label"]) or 0
    digest: str = connection.scalar(_SQL["digest"]) or ""
    counts = {(row.split, row.class_): row.n for row in connection.execute(_SQL["counts"])}
    left_out = {row.reason: row.n for row in connection.execute(_SQL["left_out"]) if row.n}
    snapshot = Snapshot(digest, counts, left_out, until)
    known = connection.scalar(sa.select(sa.exists().where(tables.dataset.c.dataset_digest == digest)))
    if not known:
        connection.execute(
            sa.insert(tables.dataset).values(
                dataset_digest=digest,
                n_training=snapshot.n_images("training"),
                n_validation=snapshot.n_images("validation"),
                n_holdout=snapshot.n_images("holdout"),
                n_lockbox=snapshot.n_images("lockbox"),
                n_out_of_scope=snapshot.n_images("out_of_scope"),
                until_label_id=until,
                left_out=left_out,
                run_id=run_id,
            )
        )
    # the list of an unused snapshot may have been removed because of its age, and its labels come back
    if counts and not connection.scalar(sa.select(sa.exists().where(tables.dataset_image.c.dataset_digest == digest))):
        connection.execute(_SQL["store_images"], {"digest": digest})
    return snapshot


def stored_images(connection: sa.Connection, dataset_digest: str, split: str) -> tuple[LabelledImage, ...]:
    """Returns the images of a split with their classes, ordered by digest; images out of scope have the class ''."""
    table = tables.dataset_image
    rows = connection.execute(
        sa.select(table.c.sha256, table.c["class"])
        .where(table.c.dataset_digest == dataset_digest, table.c.split == split)
        .order_by(table.c.sha256)
    )
    return tuple(LabelledImage(Path(sha256), cell_class or "", sha256) for sha256, cell_class in rows)


def training_set(connection: sa.Connection, store: Store, dataset_digest: str) -> TrainingSet:
    """Returns the training and validation images of a data set, without hold-out and lockbox."""
    return TrainingSet(
        stored_images(connection, dataset_digest, "training"),
        stored_images(connection, dataset_digest, "validation"),
        dataset_digest,
        RULE,
        follows_mix=True,
        read=lambda image: store.read_image(image.sha256),
    )
