"""A model with the head of a site: the network, and what it knows of images of no class, are those of its parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.inference.merged_network import side_by_side
from bloodcell.inference.model_output import OF_CODES
from bloodcell.site.site_head import FAR
from bloodcell.training.model_assembly import assemble, mean_outputs
from bloodcell.training.novelty import Embedding, Novelty
from bloodcell.training.svm import dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras

    from bloodcell.site.site_head import SiteHead


def parent_outputs(model: keras.Model, variant: str) -> keras.Model:
    """Returns a model from pixels to the features that a head is fitted on, and to the parent's own outputs.

    They are `features` (n, d), `probabilities` (n, 8) and `novelty` (n,).

    Args:
        model: The parent's Keras model.
        variant: Its variant.
    """
    import keras

    kept = {name: model.output[name] for name in ("probabilities", "novelty")}
    return keras.Model(model.inputs, {"features": _features(model, variant), **kept}, name=variant)


def site_model(model: keras.Model, variant: str, head: SiteHead, temperature: float) -> keras.Model:
    """Returns the model that a site's bundle stores: `model` up to its features, then the head.

    Args:
        model: The parent's Keras model; its layers become those of the new model.
        variant: Its variant.
        head: Fitted on the outputs of `parent_outputs`.
        temperature: Divisor of the head's scores.
    """
    import keras

    for operation in model.operations:
        if not isinstance(operation, keras.Layer):  # Keras numbers them anew in each process, and refuses a name twice
            operation.name = f"parent_{operation.name}"
    features, gaussians = _features(model, variant), head.gaussians
    embedded = dense(gaussians.kernel, gaussians.bias, "site_axes")(features)
    scores = dense(*gaussians.score_weights, "site_scores")(embedded)
    middles = gaussians.middles[gaussians.known]
    fitted = assemble(
        model.inputs[0],
        features,
        scores,
        temperature=temperature,
        novelty=Novelty(Embedding(gaussians.kernel, gaussians.bias, middles, np.zeros(len(middles), np.float32))),
        name=variant,
        prefix="site_",
    )
    probabilities, suspected, left = _with_parent(model.output["probabilities"], fitted.output["probabilities"], head)
    novelty = keras.ops.add(fitted.output["novelty"], keras.ops.multiply(suspected[:, 0], FAR))
    outputs = {"probabilities": probabilities, "embedding": fitted.output["embedding"], "novelty": novelty}
    if len(gaussians.known) > len(CELL_CLASSES):
        every = keras.layers.Activation("softmax", name="site_codes")(fitted.get_layer("site_calibrated").output)
        outputs[OF_CODES] = keras.ops.multiply(every[:, len(CELL_CLASSES) :], left)
    whole = keras.Model(model.inputs[0], outputs, name=variant)
    whole.trainable = False
    return whole


def committee_model(members: Sequence[keras.Model], thresholds: Sequence[float], name: str) -> keras.Model:
    """Returns the mean of members of one input as one model: probabilities, and novelty in thresholds.

    Args:
        members: From `site_model`; their layers become those of the new model.
        thresholds: The largest distance of a call of each.
        name: Name of the model.
    """
    import keras

    pixels, outputs = side_by_side(members)
    ratios = [
        keras.layers.Rescaling(1 / threshold, name=f"novelty_of_{number}")(each["novelty"])
        for number, (each, threshold) in enumerate(zip(outputs, thresholds, strict=True))
    ]
    novelty = keras.layers.Average(name="mean_novelty")(ratios)
    whole = keras.Model(
        pixels, {**mean_outputs(outputs, "mean"), "embedding": outputs[0]["embedding"], "novelty": novelty}, name=name
    )
    whole.trainable = False
    return whole


def _with_parent(parent: Any, own: Any, head: SiteHead) -> tuple[Any, Any, Any]:
    """Returns what `SiteHead.judge` does.

    That is the probabilities (n, 8), whether a cell may be of an unknown class (n, 1), and what the parent leaves to
    the head (n, 1).
    """
    import keras

    of_any = keras.ops.sum(parent, axis=-1, keepdims=True)
    # of any + (1 - of any) / divisor, as in `site_head.settled`
    rest = 1 / head.none_divisor
    parent = keras.ops.divide(parent, keras.ops.add(keras.ops.multiply(of_any, 1 - rest), rest))
    of_unknown = keras.ops.multiply(parent, head.unknown[None].astype(np.float32))
    in_all = keras.ops.sum(of_unknown, axis=-1, keepdims=True)
    suspected = keras.ops.cast(keras.ops.greater(in_all, head.unknown_limit), "float32")
    left = keras.ops.sum(parent, axis=-1, keepdims=True)
    left = keras.ops.subtract(left, keras.ops.multiply(in_all, suspected))
    added = keras.ops.multiply(of_unknown, suspected)
    return keras.ops.add(keras.ops.multiply(own, left), added), suspected, left


def _features(model: keras.Model, variant: str) -> Any:
    return model.get_layer("rooted_features" if variant.endswith("_svm") else "features").output
