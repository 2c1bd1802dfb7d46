"""Several models as one network, in which equal layers with equal inputs run once.

A fine-tuned model and the SVM variant of the same base network share their frozen lower blocks, which are nearly all of
the work. Shared layers need not be declared: layers are equal if their class, configuration, weights and inputs are.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.inference.batched_model import BatchedModel
from bloodcell.inference.keras_backend import compile_model, load_backend
from bloodcell.inference.model_loading import load_model
from bloodcell.inference.model_output import ModelOutput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import keras
    from numpy.typing import NDArray

    from bloodcell.cells.image_size import Size
    from bloodcell.registry.bundle import Bundle


class MergedNetwork(BatchedModel):
    """One compiled network for all the models of a run.

    Attributes:
        input_sizes: The distinct sizes of the images that the network takes.
        model_ids: Ids of the models, in the order of the bundles.
    """

    input_sizes: tuple[Size, ...]
    model_ids: tuple[str, ...]

    def __init__(self, bundles: Sequence[Bundle], *, batch_cells: int = 32) -> None:
        """Loads and merges the models of `bundles`.

        Args:
            bundles: At least one; a bundle given twice counts once.
            batch_cells: Cells per forward pass.

        Raises:
            BundleError: A model cannot be loaded safely.
        """
        load_backend()
        import keras

        if not bundles:
            raise ValueError("Expected at least one bundle. Received none.")
        distinct = {bundle.model_id: bundle for bundle in bundles}
        self.model_ids = tuple(distinct)
        self.input_sizes = tuple(dict.fromkeys(bundle.input_size for bundle in distinct.values()))
        inputs = {size: keras.Input(size.shape, dtype="uint8", name=_input_name(size)) for size in self.input_sizes}
        sharing = _Sharing()
        outputs = {
            model_id: _rebuilt(load_model(bundle), inputs[bundle.input_size], sharing)
            for model_id, bundle in distinct.items()
        }
        named_inputs = {_input_name(size): tensor for size, tensor in inputs.items()}
        super().__init__(keras.Model(named_inputs, outputs, name="merged"), batch_cells)
        compile_model(self.model)

    def __call__(self, pixels: Mapping[Size, NDArray[np.uint8]]) -> dict[str, ModelOutput]:
        """Returns every model's output for any number n of cells.

        Args:
            pixels: For each of `input_sizes` the same n cells: uint8 (n, height, width, 3), RGB.

        Raises:
            ValueError: An input size is missing, or an array has another shape or type.
        """
        self._check(pixels)
        outputs = self.run({_input_name(size): pixels[size] for size in self.input_sizes})
        return {model_id: ModelOutput(**outputs[model_id]) for model_id in self.model_ids}

    def _check(self, pixels: Mapping[Size, NDArray[np.uint8]]) -> None:
        if missing := set(self.input_sizes) - pixels.keys():
            raise ValueError(f"Expected a batch for each input size {self.input_sizes}. Missing: {sorted(missing)}.")
        counts = set()
        for size in self.input_sizes:
            batch = pixels[size]
            if batch.shape[1:] != size.shape or batch.dtype != np.uint8:
                raise ValueError(
                    f"Expected uint8 RGB images of shape (n, {size.height_px}, {size.width_px}, 3). "
                    f"Received: {batch.dtype} {batch.shape}."
                )
            counts.add(len(batch))
        if len(counts) != 1:
            raise ValueError(
                f"Expected the same cells at every input size. Received numbers of cells: {sorted(counts)}."
            )


def side_by_side(models: Sequence[keras.Model]) -> tuple[Any, list[dict[str, Any]]]:
    """Returns an input tensor, and each model's outputs for it; equal layers with equal inputs run once.

    Args:
        models: Models with the same input, at least one; their layers become those of the new graph.
    """
    import keras

    pixels = keras.Input(models[0].input_shape[1:], dtype="uint8", name="pixels")
    sharing = _Sharing()
    return pixels, [_rebuilt(model, pixels, sharing) for model in models]


class _Sharing:
    """Calls a layer on tensors, or returns the output that an equal layer gave for the same tensors."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._tensors: dict[int, Any] = {}  # keeps the tensors alive, so that no id is reused
        self._names: dict[str, int] = {}

    def __call__(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        import keras

        arguments = keras.tree.flatten(keras.tree.map_structure(self._identity, [args, kwargs]))
        key = json.dumps([content_of(operation), arguments])
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
        """Makes the name unique: Keras requires it, and two models may use one name for different layers."""
        count = self._names.get(operation.name, 0)
        self._names[operation.name] = count + 1
        if count:
            operation.name = f"{operation.name}__{count}"


def _rebuilt(model: keras.Model, pixels: Any, sharing: _Sharing) -> Any:
    """Returns the model's outputs for the tensor `pixels`, with its layers called through `sharing`."""
    import keras

    inputs = keras.tree.pack_sequence_as(model.input, [pixels])
    return keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=sharing
    ).output


def content_of(operation: Any) -> str:
    """Returns what equal layers have in common, whatever their names: class, configuration and weights' digest."""
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


def _input_name(size: Size) -> str:
    field = "" if size.field_px is None else f"_of_{size.field_px:g}".replace(".", "_")
    return f"pixels_{size.height_px}x{size.width_px}{field}"
