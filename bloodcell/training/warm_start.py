"""Copies the weights of an earlier model into a new network of the same base, for a warm start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import ConfigurationError
from bloodcell.registry.base_weights_record import BaseWeights
from bloodcell.registry.recipes import base_of
from bloodcell.training import base_networks

if TYPE_CHECKING:
    import keras

    from bloodcell.registry.bundle import Bundle
    from bloodcell.registry.recipes import Recipe

_HEAD: Final = ("head_norm", "scores")


def warm_start(bundle: Bundle, model: keras.Model, network: keras.Model, variant: str, recipe: Recipe) -> BaseWeights:
    """Copies the weights of an earlier model's layers, up to its features, into `network`; returns their identity.

    What is done to the colours before has no weights, so it may differ.

    Args:
        bundle: Bundle of the earlier model.
        model: The earlier model, loaded.
        network: From `base_networks.build_base`, with any weights; changed in place.
        variant: Variant to train.
        recipe: Recipe to train it by.

    Raises:
        ConfigurationError: The bundle has another variant, input size or crop, or other features; or it is of an SVM
            that sees colours otherwise or has other scores.
    """
    earlier = bundle.manifest
    wanted, received = (variant, *recipe.warm_start_parts), (earlier.variant, *earlier.recipe.warm_start_parts)
    if received != wanted:
        raise ConfigurationError(
            f"Model {bundle.model_id[:12]} cannot be used for a warm start. Expected variant, input size, crop, "
            "feature layers and pooled parts, and for an SVM also standardised colours and number of scores: "
            f"{wanted}. Received: {received}. Next: train from ImageNet weights (base imagenet)."
        )
    done = {id(network.get_layer(base_networks.SCALED[base_of(variant)]))}
    for layer in recipe.feature_layers:
        _copy(model.get_layer(layer).output, base_networks.feature_map(network, layer), done)
    credit = f"warm start from model {bundle.model_id}, which started from: {earlier.base_weights.credit}"
    return BaseWeights("champion", "", bundle.model_id, credit)


def copy_head(model: keras.Model, head: keras.Model) -> bool:
    """Copies the weights of an earlier fine-tuned model's head into a new head; returns False if it has other scores.

    A release from before images of no class has no score for them.
    """
    if model.get_layer(_HEAD[-1]).units != head.get_layer(_HEAD[-1]).units:
        return False
    for name in _HEAD:
        head.get_layer(name).set_weights(model.get_layer(name).get_weights())
    return True


def _copy(source: Any, target: Any, done: set[int]) -> None:
    """Copies weights along two graphs of the same structure, from outputs to the layers in `done`.

    Names differ between processes.
    """
    pending = [(source, target)]
    while pending:
        one, other = pending.pop()
        from_layer, to_layer = one._keras_history.operation, other._keras_history.operation
        if id(to_layer) in done:
            continue
        done.add(id(to_layer))
        if getattr(to_layer, "weights", None):  # an operation such as a flip has none
            to_layer.set_weights(from_layer.get_weights())
        inputs = (from_layer._inbound_nodes[one._keras_history.node_index].input_tensors,
                  to_layer._inbound_nodes[other._keras_history.node_index].input_tensors)  # fmt: skip
        pending += zip(*inputs, strict=True)
