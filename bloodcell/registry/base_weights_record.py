"""The weights that a training started from, as a bundle records them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """Identity of the weights that a training started from.

    Attributes:
        kind: `imagenet`, `file`, or `champion` for a warm start. Bundles of earlier releases may also have `random`.
        file: Name of the file, empty for a warm start.
        sha256: Digest of the file; for a warm start the earlier model's id.
        credit: Where the weights come from and under which licence.
    """

    kind: str
    file: str
    sha256: str
    credit: str
