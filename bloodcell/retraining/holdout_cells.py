"""The cells that models are validated on: a data set's hold-out, and its cells out of scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation.comparison_records import Holdout
from bloodcell.retraining.snapshot import stored_images
from bloodcell.retraining.validation_page import SplitFacts
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    import sqlalchemy as sa

    from bloodcell.cells.labelled_image import LabelledImage


_SQL: Final = load_statements("retraining/holdout_cells.sql")


@dataclass(frozen=True, slots=True)
class HoldoutCells:
    """The cells of a validation, and what its page says about the data set.

    Attributes:
        images: Images of the hold-out, without those that a compared model was trained on.
        holdout: Class, patient and slide of each of `images`.
        out_of_scope: Images of labelled cells out of scope.
        splits: Size of each split of the data set.
        left_out: (reason, number of labelled cells) for the cells that are not in the data set or not in `images`.
        labels_until: When the newest label of the data set was recorded, None if it has none.
    """

    images: tuple[LabelledImage, ...]
    holdout: Holdout
    out_of_scope: tuple[LabelledImage, ...]
    splits: tuple[SplitFacts, ...]
    left_out: tuple[tuple[str, int], ...]
    labels_until: datetime | None


def holdout_cells(connection: sa.Connection, dataset_digest: str, trained_on: Collection[str]) -> HoldoutCells:
    """Returns the hold-out of a data set, and its cells out of scope.

    Args:
        connection: Where to read.
        dataset_digest: The data set.
        trained_on: Digests of the images that any of the compared models was trained on.
    """
    digest = {"digest": dataset_digest}
    found = stored_images(connection, dataset_digest, "holdout")
    origin = {row.sha256: row for row in connection.execute(_SQL["origin"], digest)}
    of_patients = [image for image in found if image.sha256 in origin]
    # a model may have been trained on a folder of the files as they were received
    seen = {image for image, row in origin.items() if image in trained_on or row.received_sha256 in trained_on}
    images = tuple(image for image in of_patients if image.sha256 not in seen)
    patients = {key: number for number, key in enumerate(sorted({row.split_key for row in origin.values()}))}
    dataset = connection.execute(_SQL["dataset"], digest).one()
    left_out = dict(dataset.left_out)
    if n_withdrawn := len(found) - len(of_patients):
        left_out["hold-out image of a slide that was withdrawn or renamed since"] = n_withdrawn
    if n_trained_on := len(of_patients) - len(images):
        left_out["hold-out image that a compared model was trained on"] = n_trained_on
    return HoldoutCells(
        images=images,
        holdout=Holdout(
            truth=np.array([CELL_CLASSES.index(image.cell_class) for image in images], np.int64),
            patients=np.array([patients[origin[image.sha256].split_key] for image in images], np.int64),
            slides=np.array([origin[image.sha256].slide_id for image in images], np.int64),
        ),
        out_of_scope=stored_images(connection, dataset_digest, "out_of_scope"),
        splits=tuple(SplitFacts(*row) for row in connection.execute(_SQL["splits"], digest)),
        left_out=tuple(left_out.items()),
        labels_until=dataset.labels_until,
    )
