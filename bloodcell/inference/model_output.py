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

OF_CODES: Final = "of_codes"
"""Name of a further output, of a model that knows codes out of scope."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One model's outputs for n cells.

    Attributes:
        probabilities: float32 (n, 8), calibrated, in the order of `CELL_CLASSES`.
        embedding: float32 (n, d), the space in which novelty is a distance (`training.novelty.Embedding`).
        novelty: float32 (n,), how unlike the training cells a cell is (`training.novelty.Novelty`).
        of_codes: float32 (n, k), the probabilities of the codes out of scope that the model knows
            (`SiteRecord.codes`); None if it knows none.
    """

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    novelty: NDArray[np.float32]
    of_codes: NDArray[np.float32] | None = None

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        """Bool (n,), whether all that decides the call of a cell is finite."""
        decisive = [self.probabilities, self.novelty[:, None], *([] if self.of_codes is None else [self.of_codes])]
        return np.asarray(np.isfinite(np.concatenate(decisive, axis=1)).all(axis=1))


def joined(parts: Sequence[ModelOutput]) -> ModelOutput:
    """Returns the outputs of several batches as one."""
    outputs = {name: np.concatenate([getattr(part, name) for part in parts]) for name in OUTPUTS}
    of_codes = [part.of_codes for part in parts if part.of_codes is not None]
    return ModelOutput(**outputs, of_codes=np.concatenate(of_codes) if of_codes else None)


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
        of_codes=output.of_codes,
        codes=bundle.codes,
    )
