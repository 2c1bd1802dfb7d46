"""What is done to an image before its features are computed and cached."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from bloodcell.training.augmentation import augmented
from bloodcell.training.outliers import outlier

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.registry.recipes import Augmentation


class Change(Protocol):
    """A change of an image that depends on nothing but the image and its digest."""

    @property
    def name(self) -> str:
        """Name of the change in the cache; another change has another name."""

    def __call__(self, pixels: NDArray[np.uint8], sha256: str, /) -> NDArray[np.uint8]:
        """Returns the changed image, of the same size.

        Args:
            pixels: uint8 (side, side, 3), RGB.
            sha256: Digest of the image's file.
        """


@dataclass(frozen=True, slots=True)
class Turned:
    """One of the eight flips and quarter turns, 0 = none."""

    transform: int

    @property
    def name(self) -> str:
        """The number of the transform."""
        return str(self.transform)

    def __call__(self, pixels: NDArray[np.uint8], sha256: str) -> NDArray[np.uint8]:
        """Returns the image rotated by `transform % 4` quarter turns, and mirrored from 4 on."""
        turned = np.rot90(pixels, self.transform % 4)
        return np.ascontiguousarray(turned[:, ::-1] if self.transform >= 4 else turned)


AS_IS: Final = Turned(0)


@dataclass(frozen=True, slots=True)
class ChangedCopy:
    """A copy with random changes, which are the same whenever the copy is made.

    Attributes:
        number: Number of the copy.
        augmentation: Bounds of the changes.
        is_outlier: Whether it becomes an image of no class first.
        seed: Seed of the changes.
    """

    number: int
    augmentation: Augmentation
    is_outlier: bool
    seed: int

    @property
    def name(self) -> str:
        """A digest of all that defines the changes."""
        return f"copy{hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]}"

    def __call__(self, pixels: NDArray[np.uint8], sha256: str) -> NDArray[np.uint8]:
        """Returns the changed image."""
        random = np.random.default_rng((self.seed, self.number, int(sha256[:16], 16)))
        if self.is_outlier:
            pixels = outlier(pixels, np.rot90(pixels), random)
        return augmented(pixels, self.augmentation, random)
