"""A Keras model run in batches of one shape, which become smaller when a device's memory runs out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.cells.image_size import Size
from bloodcell.inference.keras_backend import compile_model, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


class BatchedModel:
    """A Keras model that only ever sees batches of one size, so that only one shape is traced.

    The result of a row does not depend on the number of rows given with it.

    Attributes:
        model: The Keras model.
        batch_cells: Rows per forward pass; halved when the device lacks the memory for them.
    """

    model: keras.Model

    def __init__(self, model: keras.Model, batch_cells: int) -> None:
        self.model = model
        self.batch_cells = batch_cells

    def run(self, inputs: Any) -> Any:
        """Returns the model's outputs for any number n of rows, in the structure of the model's outputs.

        Args:
            inputs: An array of n rows, or a dict of such arrays, as the model takes it.
        """
        import keras

        n_rows = len(keras.tree.flatten(inputs)[0])
        parts, start = [], 0
        while start < n_rows:
            parts.append(self._forward(inputs, start))
            start += self.batch_cells
        if not parts:
            return keras.tree.map_structure(lambda each: np.empty((0, *each.shape[1:]), each.dtype), self.model.output)
        return keras.tree.map_structure(lambda *each: np.concatenate(each)[:n_rows], *parts)

    def _forward(self, inputs: Any, start: int) -> Any:
        import keras

        while True:
            rows = keras.tree.map_structure(
                lambda each: padded(each[start : start + self.batch_cells], self.batch_cells), inputs
            )
            try:
                return self.model.predict_on_batch(rows)
            except Exception as error:  # each backend has its own error for a lack of memory
                if self.batch_cells == 1 or not is_out_of_memory(error):
                    raise
            self.batch_cells //= 2
            log.warning(
                "Not enough memory for %d cells at once: continuing with %d. Set BLOODCELL_BATCH_CELLS to that number.",
                self.batch_cells * 2,
                self.batch_cells,
            )


class FeatureExtractor(BatchedModel):
    """A Keras model from pixels to named outputs, compiled for this device.

    Attributes:
        input_sizes: Size of the model's only input.
    """

    input_sizes: tuple[Size, ...]

    def __init__(self, model: keras.Model, batch_cells: int) -> None:
        """Compiles `model`, which takes uint8 (n, height, width, 3), RGB, and returns a dict of arrays."""
        super().__init__(model, batch_cells)
        self.input_sizes = (Size(*model.input_shape[1:3]),)
        compile_model(model)

    def __call__(self, pixels: Mapping[Size, NDArray[np.uint8]]) -> dict[str, NDArray[Any]]:
        """Returns each output for any number of cells."""
        outputs: dict[str, NDArray[Any]] = self.run(pixels[self.input_sizes[0]])
        return outputs


def padded(rows: NDArray[Any], n_rows: int) -> NDArray[Any]:
    """Returns `rows` with its last row repeated up to `n_rows`."""
    missing = n_rows - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
