"""A labelled image, and sets of labelled images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image file, and the class that a person assigned to it.

    Attributes:
        path: Where the file is; for an image in the store, its name.
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
        training: Images that weights are fitted on.
        validation: Images for early stopping, calibration and thresholds.
        digest: Identity of all the images and their labels (`digest_of`).
        rule: How the images were split, in words.
        follows_mix: Whether the classes are as frequent as in a laboratory's nights.
        read: Returns an image's file.
    """

    training: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    digest: str
    rule: str
    follows_mix: bool
    read: Callable[[LabelledImage], bytes]


def digest_of(images: Sequence[LabelledImage]) -> str:
    """Returns the identity of a data set: the sha256 over every (sha256, class) in the order of `images`."""
    return hashlib.sha256("".join(f"{each.sha256} {each.cell_class}\n" for each in images).encode()).hexdigest()
