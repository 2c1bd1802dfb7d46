"""A labelled image, and the identity of a data set of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image file and the group a person gave it.

    Attributes:
        path: Where the file lies; of an image in the store, its name.
        cell_class: One of `CELL_CLASSES`.
        sha256: Digest of the file.
    """

    path: Path
    cell_class: str
    sha256: str


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Images to train on and to validate with.

    Attributes:
        training: Weights are fitted on these.
        validation: Early stopping, calibration and thresholds.
        digest: Identity of all the images and their labels.
        rule: How they were split, for people.
        follows_mix: Whether classes are as frequent as in a laboratory's nights.
        read: Returns an image's file.
    """

    training: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    digest: str
    rule: str
    follows_mix: bool
    read: Callable[[LabelledImage], bytes]


def digest_of(images: Sequence[LabelledImage]) -> str:
    """Returns the identity of a data set: sha256 over every (sha256, group) in the order of `images`."""
    return hashlib.sha256("".join(f"{each.sha256} {each.cell_class}\n" for each in images).encode()).hexdigest()
