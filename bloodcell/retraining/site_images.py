"""The images of a data set, as a calibration takes them: by patient, with codes and unlabelled cells.

Nothing here is of a patient whose cells judge models.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.site.site_images import SiteImage, SiteImages
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import sqlalchemy as sa

    from bloodcell.storage.store import Store

_SQL: Final = load_statements("retraining/site_images.sql")

MAX_UNLABELLED: Final = 4_000
"""Unlabelled cells: their features only turn the axes of the head, and more of them changed nothing."""


def site_images(connection: sa.Connection, store: Store, dataset_digest: str) -> SiteImages:
    """Returns the images of a data set for a calibration, ordered by digest; the slide of each is its patient.

    Args:
        connection: An open transaction.
        store: Where the images are.
        dataset_digest: The data set.
    """
    asked = {"digest": dataset_digest}
    rows = [
        *connection.execute(_SQL["labelled"], asked),
        *connection.execute(_SQL["codes"], asked),
        *connection.execute(_SQL["unlabelled"], asked | {"n": MAX_UNLABELLED}),
    ]
    images = sorted(
        (SiteImage(Path(row.sha256), row.label, row.split_key, row.sha256) for row in rows),
        key=lambda image: image.sha256,
    )
    return SiteImages(tuple(images), (), 0, lambda image: store.read_image(image.sha256))
