"""A model's outputs for some cells, and the calls that the thresholds of its bundle make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.calls import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.registry.bundle import Bundle

OUTPUTS: Final = ("probabilities", "embedding", "novelty")
"""Names of the outputs of a bundle's Keras model."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One model's outputs for n cells.

    Attributes:
        probabilities: float32 (n, 8), calibrated, in the order of `CELL_CLASSES`.
        embedding: float32 (n, d), the space in which novelty is a distance (`training.novelty.Embedding`).
        novelty: float32 (n,), distance in the embedding to the nearest class.
    """

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    novelty: NDArray[np.float32]


def joined(parts: Sequence[ModelOutput]) -> ModelOutput:
    """Returns the outputs of several batches as one."""
    return ModelOutput(*(np.concatenate([getattr(part, name) for part in parts]) for name in OUTPUTS))


def calls_of(bundle: Bundle, output: ModelOutput) -> Calls:
    """Returns a model's calls, decided by its bundle's thresholds.

    Args:
        bundle: The model's bundle.
        output: The model's outputs for some cells.
    """
    return decide(
        output.probabilities,
        output.novelty,
        confidence_threshold=bundle.manifest.confidence_threshold,
        novelty_threshold=bundle.manifest.novelty_threshold,
    )
