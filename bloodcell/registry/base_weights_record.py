"""Which weights a training began with, as a bundle records it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """Identity of the weights a training began with.

    Attributes:
        kind: `imagenet` or `random`.
        file: Name of the file, empty for random ones.
        sha256: Digest of the file, or of the random values.
        credit: Where they come from and under which licence.
    """

    kind: str
    file: str
    sha256: str
    credit: str
