"""Features of some training images, so that a later fit to few labels does not forget the classes as they were learnt.

A bundle keeps them in the file `rehearsal.npz`: averages of the network's last maps, from which no image can be made.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bloodcell.registry.bundle import Bundle

REHEARSAL: Final = "rehearsal.npz"
CELLS_PER_CLASS: Final = 64
"""Cells kept of each class: 64 give the covariance of 64 components, and a tenth of a bundle's bytes."""

_MAX_FEATURES: Final = 16_384
_MAX_BYTES: Final = 2 * CELLS_PER_CLASS * len(CELL_CLASSES) * _MAX_FEATURES


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Training images as the head of the model sees them.

    Attributes:
        features: float16 (n, n_features).
        labels: int8 (n,), index into `CELL_CLASSES`.

    Raises:
        ValueError: An array has another shape or type, or a class is missing.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int8]

    def __post_init__(self) -> None:
        n_cells = len(self.labels)
        if (
            self.features.ndim != 2
            or self.features.shape[0] != n_cells
            or not 0 < self.features.shape[1] <= _MAX_FEATURES
            or self.features.dtype != np.float16
            or self.labels.dtype != np.int8
        ):
            raise ValueError(
                f"expected features float16 (n, up to {_MAX_FEATURES}) and labels int8 (n,), received "
                f"{self.features.dtype} {self.features.shape} and {self.labels.dtype} {self.labels.shape}"
            )
        if not np.isfinite(self.features).all() or set(self.labels.tolist()) != set(range(len(CELL_CLASSES))):
            raise ValueError("expected finite features and cells of every class")


def rehearsed(labels: NDArray[np.integer], n_cells: int = CELLS_PER_CLASS) -> NDArray[np.int64]:
    """Returns the indices of the training images whose features are kept: of each class the first ones.

    Args:
        labels: int (n,), class numbers in the order of the images, which is that of their digests and so a random one.
        n_cells: How many of each class.
    """
    members = [np.flatnonzero(labels == each)[:n_cells] for each in range(len(CELL_CLASSES))]
    return np.sort(np.concatenate(members))


def write_rehearsal(path: Path, rehearsal: Rehearsal) -> None:
    """Writes the features; the same features give the same bytes."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, features=rehearsal.features, labels=rehearsal.labels)


def read_rehearsal(bundle: Bundle) -> Rehearsal:
    """Returns the features in a bundle.

    Raises:
        BundleError: The bundle has none, or its file is damaged.
    """
    if REHEARSAL not in bundle.manifest.files:
        raise BundleError(
            f"Model {bundle.model_id[:12]} has no {REHEARSAL}: it was trained by an earlier release, and a site cannot "
            "be calibrated from it. Next: use the shipped models of this release, or train again.",
            folder=str(bundle.folder),
        )
    body = bundle.read(REHEARSAL)
    try:
        if len(body) > _MAX_BYTES + 2**16:
            raise ValueError(f"expected at most {_MAX_BYTES:,} bytes, received {len(body):,}")
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            return Rehearsal(arrays["features"], arrays["labels"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BundleError(
            f"Model bundle refused: {bundle.folder / REHEARSAL} is not what training writes: {error}. Restore the "
            "bundle from its source, or train again.",
            folder=str(bundle.folder),
        ) from error
