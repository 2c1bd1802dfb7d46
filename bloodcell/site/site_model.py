"""A model with the head of a site: the network, and what it knows of images of no class, are those of its parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.training.model_assembly import assemble
from bloodcell.training.novelty import Embedding
from bloodcell.training.svm import dense

if TYPE_CHECKING:
    import keras

    from bloodcell.site.class_gaussians import ClassGaussians


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


def site_model(model: keras.Model, variant: str, head: ClassGaussians, temperature: float) -> keras.Model:
    """Returns the model that a site's bundle stores: `model` up to its features, then the head.

    Args:
        model: The parent's Keras model.
        variant: Its variant.
        head: Fitted on the outputs of `parent_outputs`.
        temperature: Divisor of the head's scores.
    """
    features, middles = _features(model, variant), head.middles
    embedded = dense(head.kernel, head.bias, "site_axes")(features)
    scores = dense(middles.T, -0.5 * np.square(middles).sum(axis=1), "site_scores")(embedded)
    return assemble(
        model.inputs[0],
        features,
        scores,
        temperature=temperature,
        embedding=Embedding(head.kernel, head.bias, middles, np.zeros(len(middles), np.float32)),
        name=variant,
        prefix="site_",
        of_any_class=_of_any_class(model),
    )


def _features(model: keras.Model, variant: str) -> Any:
    return model.get_layer("rooted_features" if variant.endswith("_svm") else "features").output


def _of_any_class(model: keras.Model) -> Any:
    import keras

    return keras.ops.sum(model.output["probabilities"], axis=-1, keepdims=True)
