"""Several models become one network in which equal layers with equal inputs run once.

A fine-tuned model and the SVM variant of the same base share their frozen lower blocks, which are nearly all of the
work; nothing has to say so, for layers are compared by what they are: class, configuration, weights and inputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.cells.calls import decide
from bloodcell.inference.backend import compile_model, is_out_of_memory, padded
from bloodcell.registry.bundle import OUTPUTS, load_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import keras
    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.registry.bundle import Bundle


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What one model says of n cells.

    Attributes:
        probabilities: float32 (n, 8), calibrated, in the order of `CELL_CLASSES`.
        embedding: float32 (n, d), in which novelty is a distance (`novelty.Embedding`).
        novelty: float32 (n,), distance in the embedding to the nearest class.
    """

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    novelty: NDArray[np.float32]


def joined(parts: Sequence[ModelOutput]) -> ModelOutput:
    """Returns the outputs of several batches as one."""
    return ModelOutput(*(np.concatenate([getattr(part, name) for part in parts]) for name in OUTPUTS))


def calls_of(bundle: Bundle, output: ModelOutput) -> Calls:
    """Returns what a model calls each cell, by its bundle's own thresholds."""
    return decide(
        output.probabilities,
        output.novelty,
        confidence_threshold=bundle.manifest.confidence_threshold,
        novelty_threshold=bundle.manifest.novelty_threshold,
    )


class MergedNetwork:
    """One compiled network for all the models of a run.

    Attributes:
        batch_cells: Cells per forward pass; halved where the device has not the memory for so many.
        input_sizes: (height, width) in pixels of every input it takes, each once.
        model_ids: Of the bundles, in their order.
        model: The one functional Keras model.
    """

    input_sizes: tuple[tuple[int, int], ...]
    model_ids: tuple[str, ...]
    model: keras.Model

    def __init__(self, bundles: Sequence[Bundle], *, batch_cells: int = 32) -> None:
        """Loads the models of `bundles` and merges them.

        Args:
            bundles: At least one; a bundle given twice counts once.
            batch_cells: Cells per forward pass. Every pass has this size, a smaller batch is filled up: one shape is
                traced, and a cell's result does not depend on how many came with it.

        Raises:
            BundleError: A model that cannot be loaded safely.
        """
        import keras

        if not bundles:
            raise ValueError("Expected at least one bundle. Received none.")
        distinct = {bundle.model_id: bundle for bundle in bundles}
        self.model_ids = tuple(distinct)
        self.input_sizes = tuple(dict.fromkeys(bundle.input_size for bundle in distinct.values()))
        self.batch_cells = batch_cells
        inputs = {size: keras.Input((*size, 3), dtype="uint8", name=_input_name(size)) for size in self.input_sizes}
        sharing = _Sharing()
        outputs = {
            model_id: _rebuilt(load_model(bundle), inputs[bundle.input_size], sharing)
            for model_id, bundle in distinct.items()
        }
        self.model = keras.Model({_input_name(size): tensor for size, tensor in inputs.items()}, outputs, name="merged")
        compile_model(self.model)

    def __call__(self, batches: Mapping[tuple[int, int], NDArray[np.uint8]]) -> dict[str, ModelOutput]:
        """Returns every model's output for n cells, any n.

        Args:
            batches: For each of `input_sizes` the same n cells: uint8 (n, height, width, 3), RGB.

        Raises:
            ValueError: For an input size that is missing, or arrays of another shape or type.
        """
        n_cells = self._checked(batches)
        parts, start = [], 0
        while start < n_cells:
            parts.append(self._forward(batches, start))
            start += self.batch_cells
        if not parts:
            return {model_id: self.nothing(model_id) for model_id in self.model_ids}
        return {
            model_id: ModelOutput(
                *(np.concatenate([part[model_id][name] for part in parts])[:n_cells] for name in OUTPUTS)
            )
            for model_id in self.model_ids
        }

    def _forward(self, batches: Mapping[tuple[int, int], NDArray[np.uint8]], start: int) -> dict[str, Any]:
        while True:
            stop = start + self.batch_cells
            rows = {_input_name(size): padded(batches[size][start:stop], self.batch_cells) for size in self.input_sizes}
            try:
                outputs: dict[str, Any] = self.model.predict_on_batch(rows)
            except Exception as error:
                if self.batch_cells == 1 or not is_out_of_memory(error):
                    raise
                self.batch_cells //= 2
                log.warning(
                    "No memory for %d cells at once: going on with %d. Set BLOODCELL_BATCH_CELLS to what fits.",
                    self.batch_cells * 2,
                    self.batch_cells,
                )
            else:
                return outputs

    def _checked(self, batches: Mapping[tuple[int, int], NDArray[np.uint8]]) -> int:
        if missing := set(self.input_sizes) - batches.keys():
            raise ValueError(f"Expected a batch for each input size {self.input_sizes}. Missing: {sorted(missing)}.")
        counts = set()
        for size in self.input_sizes:
            batch = batches[size]
            if batch.shape[1:] != (*size, 3) or batch.dtype != np.uint8:
                raise ValueError(
                    f"Expected uint8 RGB images of shape (n, {size[0]}, {size[1]}, 3). "
                    f"Received: {batch.dtype} {batch.shape}."
                )
            counts.add(len(batch))
        if len(counts) != 1:
            raise ValueError(
                f"Expected the same cells at every input size. Received numbers of cells: {sorted(counts)}."
            )
        return counts.pop()

    def nothing(self, model_id: str) -> ModelOutput:
        shapes = {name: tensor.shape[1:] for name, tensor in self.model.output[model_id].items()}
        return ModelOutput(*(np.empty((0, *shapes[name]), np.float32) for name in OUTPUTS))


class _Sharing:
    """Calls a layer on tensors, or returns what an equal layer gave for the same tensors."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._tensors: dict[int, Any] = {}  # keeps the tensors alive, so that no id is given twice
        self._names: dict[str, int] = {}

    def __call__(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        import keras

        arguments = keras.tree.flatten(keras.tree.map_structure(self._identity, [args, kwargs]))
        key = json.dumps([_content(operation), arguments])
        if key not in self._known:
            self._rename(operation)
            self._known[key] = operation(*args, **kwargs)
        return self._known[key]

    def _identity(self, argument: Any) -> str:
        import keras

        if isinstance(argument, keras.KerasTensor):
            self._tensors[id(argument)] = argument
            return f"tensor {id(argument)}"
        return repr(argument)

    def _rename(self, operation: Any) -> None:
        """Keras wants every name in a model once, and two models may use one for different layers."""
        count = self._names.get(operation.name, 0)
        self._names[operation.name] = count + 1
        if count:
            operation.name = f"{operation.name}__{count}"


def _rebuilt(model: keras.Model, pixels: Any, sharing: _Sharing) -> Any:
    """Returns the model's outputs for the tensor `pixels`, its layers called through `sharing`."""
    import keras

    inputs = keras.tree.pack_sequence_as(model.input, [pixels])
    return keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=sharing
    ).output


def _content(operation: Any) -> str:
    """Returns what a layer is, whatever its name: class, configuration and a digest of its weights."""
    import keras

    config = {key: value for key, value in operation.get_config().items() if key not in ("name", "trainable")}
    digest = hashlib.sha256()
    for weight in getattr(operation, "weights", ()):
        values = keras.ops.convert_to_numpy(weight)
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(values.tobytes())
    kind = f"{type(operation).__module__}.{type(operation).__qualname__}"
    plain = keras.saving.serialize_keras_object(config)
    return json.dumps([kind, plain, digest.hexdigest()], sort_keys=True, default=repr)


def _input_name(size: tuple[int, int]) -> str:
    return f"pixels_{size[0]}x{size[1]}"
