"""The base networks as flat Keras graphs: uint8 RGB pixels in, named feature layers and their averages out.

They are flat, without a model inside a model, so that they can be cut at any layer, and so that layers can be compared
and shared.
Source: keras.applications (Simonyan and Zisserman 2015, arXiv:1409.1556; Szegedy et al. 2016, arXiv:1512.00567).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import ConfigurationError
from bloodcell.registry.compact import rounded
from bloodcell.training.colour import COLOURED, standardised

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras

_PREPROCESSING: Final = {
    "vgg16": "RGB minus the ImageNet mean (123.68, 116.779, 103.939), channels reversed to BGR; inside the model",
    "inception_v3": "RGB scaled to [-1, 1]; inside the model",
}
SCALED: Final = {"vgg16": "centred", "inception_v3": "scaled"}
"""Name of the layer that brings pixels to the range of the published weights; what comes before it has no weights."""

_MEAN_RGB: Final = (123.68, 116.779, 103.939)
_SMALLEST_SIDE_PX: Final = {"vgg16": 32, "inception_v3": 75}


def preprocessing(base: str, standardises_colour: bool) -> str:
    """Returns in words what a model of `base` does to pixels before the network sees them."""
    colours = "colours around the cell brought into the range of the training images; " if standardises_colour else ""
    return colours + _PREPROCESSING[base]


def build_base(
    base: str,
    side_px: int,
    crop_px: int | None = None,
    precision: str = "float32",
    *,
    standardises_colour: bool = False,
) -> keras.Model:
    """Returns a base network without its top, with untrained weights.

    Args:
        base: `vgg16` or `inception_v3`.
        side_px: Height and width of the input.
        crop_px: Height and width of the central part that the network sees; None for the whole image.
        precision: Keras' dtype policy of its layers.
        standardises_colour: Whether the network sees colours as `colour.standardised` returns them.

    Returns:
        A flat functional model with the input `pixels`, uint8 (n, side_px, side_px, 3), RGB. Its layers have Keras'
        names (`block4_pool`, `mixed7` ...). No layer is trainable, and batch normalisation uses its stored statistics
        even while other layers are trained.

    Raises:
        ConfigurationError: The crop is smaller than the network can take, or larger than the input.
    """
    import keras

    crop_px = crop_px or side_px
    if not _SMALLEST_SIDE_PX[base] <= crop_px <= side_px:
        raise ConfigurationError(
            f"The input of {base} does not fit. Expected sides of at least {_SMALLEST_SIDE_PX[base]} px, and a crop "
            f"within the input. Received: side_px={side_px}, crop_px={crop_px}."
        )
    with in_precision(precision):
        pixels = keras.Input((side_px, side_px, 3), dtype="uint8", name="pixels")
        before = (side_px - crop_px) // 2
        margins = (before, side_px - crop_px - before)
        middle = keras.layers.Cropping2D((margins, margins), name="middle", dtype="float32")
        seen = standardised(pixels, middle) if standardises_colour else middle(pixels)
        if base == "vgg16":
            centred = keras.layers.Rescaling(1.0, offset=[-mean for mean in _MEAN_RGB], name=SCALED[base])(seen)
            network = keras.applications.VGG16(
                include_top=False, weights=None, input_tensor=keras.ops.flip(centred, axis=-1)
            )
        else:
            scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=SCALED[base])(seen)
            network = keras.applications.InceptionV3(include_top=False, weights=None, input_tensor=scaled)
    network.trainable = False
    return network


def backbone(network: keras.Model) -> keras.Model:
    """Returns the part of `network` that weights are published for: its layers without what is done to the colours."""
    import keras

    if all(layer.name != COLOURED for layer in network.layers):
        return network
    return keras.Model(network.get_layer(COLOURED).output, network.output)


@contextmanager
def in_precision(policy: str) -> Iterator[None]:
    """Gives this dtype policy to all layers that are created inside the context."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def round_kernels(network: keras.Model) -> None:
    """Rounds the kernels of `network` to float16's values, in place, so that a bundle needs half the bytes for them.

    Nearly all weights are kernels. Biases and batch normalisation stay as they are.
    """
    import keras

    for layer in network.layers:
        if hasattr(layer, "kernel"):
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            layer.kernel.assign(rounded(kernel))


def feature_map(network: keras.Model, layer: str) -> Any:
    """Returns the output of a layer of `network`: a map (n, height, width, channels).

    Raises:
        ConfigurationError: The network has no such layer, or the layer's output is not a map.
    """
    names = {each.name for each in network.layers}
    if layer not in names:
        raise ConfigurationError(f"Unknown feature layer. Expected a layer of {network.name}. Received: {layer!r}.")
    output = network.get_layer(layer).output
    if len(output.shape) != 4:
        raise ConfigurationError(f"Layer {layer!r} of {network.name} has no map. Received shape: {output.shape}.")
    return output


def pooled_maps(network: keras.Model, layers: tuple[str, ...], parts: tuple[float, ...] = (1.0,)) -> dict[str, Any]:
    """Returns name -> tensor (n, channels): the map of each layer, averaged over each of its central parts.

    Args:
        network: From `build_base`.
        layers: Names of its layers.
        parts: Sizes of the central parts as shares of height and width, above 0 and up to 1.
    """
    import keras

    averages = {}
    for part in parts:
        for layer in layers:
            whole = feature_map(network, layer)
            margins = tuple(round(length * (1 - part) / 2) for length in whole.shape[1:3])
            name = f"{layer}_mean" if part == 1 else f"{layer}_mean_of_{part:g}"
            middle = keras.layers.Cropping2D(margins)(whole) if any(margins) else whole
            averages[name] = keras.layers.GlobalAveragePooling2D(name=name)(middle)
    return averages


def pooled(
    network: keras.Model, layers: tuple[str, ...], parts: tuple[float, ...] = (1.0,), *, name: str = "features"
) -> Any:
    """Returns the concatenated `pooled_maps`: a tensor (n, sum of channels) with the name `name`."""
    import keras

    averages = list(pooled_maps(network, layers, parts).values())
    joined = averages[0] if len(averages) == 1 else keras.layers.Concatenate(name=f"{name}_joined")(averages)
    return keras.layers.Identity(name=name)(joined)


def rooted(features: Any) -> Any:
    """Returns the square roots of averaged maps, which are never negative, so that large values do not dominate.

    Source: Perronnin, Sanchez and Mensink 2010, Improving the Fisher Kernel (ECCV), power normalisation.
    """
    import keras

    return keras.layers.Identity(name="rooted_features")(keras.ops.sqrt(keras.ops.relu(features)))
