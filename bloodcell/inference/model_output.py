"""A model's outputs for some cells, and the calls that follow from them by its bundle's thresholds."""

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
"""Names of a bundle's outputs in its Keras model."""


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
    """Returns a model's calls, by its bundle's thresholds.

    Args:
        bundle: The model.
        output: What it returned for some cells.
    """
    return decide(
        output.probabilities,
        output.novelty,
        confidence_threshold=bundle.manifest.confidence_threshold,
        novelty_threshold=bundle.manifest.novelty_threshold,
    )
