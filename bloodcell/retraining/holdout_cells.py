"""The cells that models are judged on: a data set's hold-out or its lockbox, and its cells out of scope."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.evaluation.comparison_records import Holdout
from bloodcell.retraining.snapshot import stored_images
from bloodcell.retraining.validation_page import SplitFacts
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    import sqlalchemy as sa

    from bloodcell.cells.labelled_image import LabelledImage


JudgingSplit = Literal["holdout", "lockbox"]

_SQL: Final = load_statements("retraining/holdout_cells.sql")


@dataclass(frozen=True, slots=True)
class HoldoutCells:
    """The cells of a validation, and what its page says about the data set.

    Attributes:
        images: Images of the split, without those that a compared model was trained on.
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


def holdout_cells(
    connection: sa.Connection, dataset_digest: str, trained_on: Collection[str], *, split: JudgingSplit = "holdout"
) -> HoldoutCells:
    """Returns the cells of a data set's hold-out, or of its lockbox.

    Args:
        connection: Where to read.
        dataset_digest: The data set.
        trained_on: Digests of the images that any of the compared models was trained on.
        split: holdout or lockbox.
    """
    digest = {"digest": dataset_digest}
    kept = _judging(connection, dataset_digest, split, trained_on, judging=split)
    others = _judging(connection, dataset_digest, "out_of_scope", trained_on, judging=split)
    n_unread: int = connection.execute(_SQL["unread"], {"split": split}).scalar_one()
    unread = {"sampled cell of a patient who judges, not read blind yet": n_unread} if n_unread else {}
    patients = {key: n for n, key in enumerate(sorted({row.split_key for row in (*kept.origin, *others.origin)}))}
    dataset = connection.execute(_SQL["dataset"], digest).one()
    return HoldoutCells(
        images=kept.images,
        holdout=Holdout(
            truth=np.array([CELL_CLASSES.index(image.cell_class) for image in kept.images], np.int64),
            patients=np.array([patients[row.split_key] for row in kept.origin], np.int64),
            slides=np.array([row.slide_id for row in kept.origin], np.int64),
            out_of_scope_patients=np.array([patients[row.split_key] for row in others.origin], np.int64),
        ),
        out_of_scope=others.images,
        splits=tuple(SplitFacts(*row) for row in connection.execute(_SQL["splits"], digest)),
        left_out=tuple((dict(dataset.left_out) | kept.left_out | unread).items()),
        labels_until=dataset.labels_until,
    )


def n_attempts(connection: sa.Connection, dataset_digest: str, candidates: Sequence[str]) -> int:
    """Returns how many other models were validated on a hold-out with images of this one."""
    values = {"digest": dataset_digest, "candidates": list(candidates)}
    return int(connection.execute(_SQL["attempts"], values).scalar_one())


@dataclass(frozen=True, slots=True)
class _Judging:
    """Images that may judge, the row of each with its origin, and reason -> number of those that may not."""

    images: tuple[LabelledImage, ...]
    origin: tuple[sa.Row[Any], ...]
    left_out: dict[str, int]


def _judging(
    connection: sa.Connection, dataset_digest: str, split: str, trained_on: Collection[str], *, judging: JudgingSplit
) -> _Judging:
    found = stored_images(connection, dataset_digest, split)
    values = {"digest": dataset_digest, "split": split, "judging": judging}
    origin = {row.sha256: row for row in connection.execute(_SQL["origin"], values)}
    left_out: Counter[str] = Counter()
    images = []
    for image in found:
        row = origin.get(image.sha256)
        if row is None:
            left_out["hold-out image of a slide that was withdrawn or renamed since"] += 1
        elif not row.is_evidence:
            left_out["hold-out image that was not read blind from the random sample"] += 1
        # a model may have been trained on a folder of the files as they were received
        elif image.sha256 in trained_on or row.received_sha256 in trained_on:
            left_out["hold-out image that a compared model was trained on"] += 1
        else:
            images.append(image)
    return _Judging(tuple(images), tuple(origin[image.sha256] for image in images), dict(left_out))
