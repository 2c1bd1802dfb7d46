"""The model of a bundle in plain Keras layers: pixels in; calibrated probabilities, embedding and novelty out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.inference.model_output import OF_CODES
from bloodcell.training.svm import dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras

    from bloodcell.training.novelty import Novelty


def mean_outputs(outputs: Sequence[dict[str, Any]], prefix: str) -> dict[str, Any]:
    """Returns the mean probabilities of several outputs for the same cells, of classes and of codes out of scope.

    Args:
        outputs: Name -> tensor, of models or of turned images.
        prefix: Of the names of the new layers.
    """
    import keras

    return {
        name: keras.layers.Average(name=f"{prefix}_{name}")([each[name] for each in outputs])
        for name in ("probabilities", OF_CODES)
        if name in outputs[0]
    }


def assemble(
    pixels: Any,
    features: Any,
    scores: Any,
    *,
    temperature: float,
    novelty: Novelty,
    name: str,
    prefix: str = "",
) -> keras.Model:
    """Returns the model that a bundle stores.

    Args:
        pixels: Input tensor, uint8 (n, height, width, 3).
        features: Tensor (n, n_features) that the embedding was fitted on.
        scores: Tensor (n, 8), or (n, k) with those of no cell class last, of scores that the temperature was fitted on.
        temperature: Divisor of the scores.
        novelty: Fitted on training features.
        name: Name of the model.
        prefix: Of the names of the new layers, for a graph that has layers of these names already.

    Returns:
        A flat functional model with the outputs `probabilities` float32 (n, 8), which add up to less than 1 if the cell
        may be of no class, `embedding` float32 (n, d) and `novelty` float32 (n,) (`novelty.Novelty`).
    """
    import keras

    calibrated = keras.layers.Rescaling(1.0 / temperature, name=f"{prefix}calibrated")(scores)
    probabilities = keras.layers.Activation("softmax", name=f"{prefix}probabilities")(calibrated)
    if scores.shape[-1] > len(CELL_CLASSES):
        probabilities = probabilities[:, : len(CELL_CLASSES)]  # the rest is the probability of no class

    embedding = novelty.embedding
    embedded = dense(embedding.kernel, embedding.bias, f"{prefix}embedding")(features)
    # |e - p|^2 = |e|^2 - 2 e.p + |p|^2: the last two terms for all classes, with their offsets, are one dense layer
    squares = keras.ops.sum(keras.ops.square(embedded), axis=-1, keepdims=True)
    constants = (embedding.points**2).sum(axis=1) + embedding.offsets
    products = dense(-2.0 * embedding.points.T, constants, f"{prefix}class_points")(embedded)
    nearest = keras.ops.min(keras.ops.add(squares, products), axis=-1)
    distance = keras.ops.sqrt(keras.ops.maximum(nearest, 0.0))
    if novelty.evidence_weight:
        evidence = keras.ops.logsumexp(calibrated[:, : len(CELL_CLASSES)], axis=-1)
        usual = novelty.evidence_weight * novelty.usual_evidence
        lack = keras.layers.Rescaling(-novelty.evidence_weight, usual, name=f"{prefix}lack_of_evidence")(evidence)
        distance = keras.ops.maximum(keras.ops.add(distance, lack), 0.0)
    model = keras.Model(pixels, {"probabilities": probabilities, "embedding": embedded, "novelty": distance}, name=name)
    model.trainable = False
    return model
