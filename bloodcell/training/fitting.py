"""The two ways to fit a variant: an SVM on frozen features, or staged fine-tuning from pixels or cached maps."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import ConfigurationError
from bloodcell.inference.batched_model import FeatureExtractor
from bloodcell.inference.keras_backend import training_precision, training_strategy
from bloodcell.inference.predicting import predict_pixels
from bloodcell.registry.compact import halved
from bloodcell.registry.recipes import base_of
from bloodcell.registry.rehearsal import Rehearsal, rehearsed
from bloodcell.training import base_networks, fine_tuning, svm, warm_start
from bloodcell.training.augmentation import augmented
from bloodcell.training.feature_cache import cached_outputs
from bloodcell.training.image_changes import AS_IS, ChangedCopy, Turned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from bloodcell.cells.labelled_image import LabelledImage, TrainingSet
    from bloodcell.registry.recipes import Augmentation, Recipe, SvmSearch, Tuning
    from bloodcell.settings import Settings
    from bloodcell.training.feature_cache import Rows
    from bloodcell.training.image_changes import Change

    OnProgress = Callable[[str, int, int], None]


EMBEDDING_PARTS: Final = (0.5,)
"""Central part of the maps of `Recipe.embedding_layers`; other cells and the background are farther out."""


@dataclass(frozen=True, slots=True)
class Material:
    """What the steps of one training share.

    `start` is the earlier model of a warm start, if any, and `remembered` what it keeps of the images it learnt from.
    """

    variant: str
    recipe: Recipe
    settings: Settings
    seed: int
    network: keras.Model
    start: keras.Model | None
    remembered: Rehearsal | None
    images: TrainingSet
    work: Path
    on_progress: OnProgress

    def labels(self, images: tuple[LabelledImage, ...]) -> NDArray[np.int64]:
        return np.array([CELL_CLASSES.index(image.cell_class) for image in images])

    def outputs(
        self, tensors: dict[str, Any], images: tuple[LabelledImage, ...], what: str, change: Change = AS_IS
    ) -> dict[str, Rows]:
        return cached_outputs(
            self.network,
            tensors,
            images,
            read=self.images.read,
            change=change,
            cache=self.settings.data_dir / "training" / "features",
            settings=self.settings,
            on_image=lambda done, total: self.on_progress(what, done, total),
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model before calibration, and its arrays for training and validation images.

    Novelty is computed from features and scores. `training_features` may hold the training images several times, each
    time all of them and in their order.
    """

    features: Any
    scores: Any
    training_features: NDArray[np.float32]
    validation_features: NDArray[np.float32]
    validation_scores: NDArray[np.float32]
    rehearsal: Rehearsal
    choice: str
    search_macro_sensitivity: float | None = None


def fit_svm(material: Material, options: SvmSearch) -> Trained:
    """Returns an SVM on the averaged maps of the base network's feature layers.

    In a warm start it is also fitted on features that the earlier model keeps, so that labels of one laboratory do not
    make it forget what it learnt from another. All of these together count at most as much as all new rows. What is
    novel follows the new images alone: cells of the first laboratory may be left without a call, but are named rightly.
    """
    recipe = material.recipe
    tensors = base_networks.pooled_maps(material.network, recipe.feature_layers, recipe.pooled_parts)
    training = np.sqrt(_side_by_side(material.outputs(tensors, material.images.training, "training features")))
    validation = np.sqrt(_side_by_side(material.outputs(tensors, material.images.validation, "validation features")))
    labels = material.labels(material.images.training)
    choice = svm.search(
        training, labels, options, material.seed, lambda done, total: material.on_progress("search SVM", done, total)
    )
    copies, outliers = _changed_features(material, options, tensors)
    shown = np.concatenate([training, *copies, *outliers])
    labels_shown = np.concatenate(
        [np.tile(labels, 1 + len(copies)), *(np.full(len(rows), len(CELL_CLASSES)) for rows in outliers)]
    )
    material.on_progress("fit SVM", 0, 1)
    weights = np.where(np.arange(len(shown)) < len(labels), options.weight_as_is, 1.0)
    if (old := material.remembered) is not None:
        weight = min(options.weight_as_is, weights.sum() / len(old.labels))
        weights = np.concatenate([weights, np.full(len(old.labels), weight)])
        shown = np.concatenate([shown, old.features.astype(np.float32)])
        labels_shown = np.concatenate([labels_shown, old.labels])
    pipeline = svm.fit(shown, labels_shown, choice, options, weights)
    material.on_progress("fit SVM", 1, 1)
    features = base_networks.rooted(base_networks.pooled(material.network, recipe.feature_layers, recipe.pooled_parts))
    return Trained(
        features,
        svm.decision_layers(pipeline, features),
        np.concatenate([training, *copies]),
        validation,
        pipeline.decision_function(validation),
        # kept as it is from training to training: the new images are in the next snapshot, those of the first are not
        material.remembered or _rehearsal(training[rehearsed(labels)], labels),
        f"gamma = {choice.gamma:g}, C = {choice.cost:g}",
        choice.macro_sensitivity,
    )


def _changed_features(
    material: Material, options: SvmSearch, tensors: dict[str, Any]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Returns the features of each copy of the training images, and those of images of no class made from them."""
    if options.augmentation is None:
        return [], []
    images, augmentation = material.images.training, options.augmentation

    def features(what: str, of: tuple[LabelledImage, ...], number: int, *, is_outlier: bool) -> NDArray[np.float32]:
        change = ChangedCopy(number, augmentation, is_outlier, material.seed)
        return np.sqrt(_side_by_side(material.outputs(tensors, of, what, change)))

    copies = [
        features(f"training features, copy {number}/{options.copies}", images, number, is_outlier=False)
        for number in range(1, options.copies + 1)
    ]
    made_from = images[: round(options.outlier_copies * len(images))]  # by digest, so it is a random part
    return copies, [features("features of no class", made_from, 0, is_outlier=True)] if made_from else []


def fine_tune(material: Material, options: Tuning) -> Trained:
    """Returns the base network with a head, in which the layers above the cut are fine-tuned."""
    import keras

    network, recipe, asked = material.network, material.recipe, options.precision
    options = replace(options, precision=training_precision(asked))
    _refuse_tuned_embedding(network, recipe.embedding_layers, options.cut_layer)
    features = base_networks.pooled(network, recipe.feature_layers, recipe.pooled_parts)
    scores = _head(features, recipe, options, material.seed)
    head = keras.Model(features, scores)
    is_new = material.start is None or not warm_start.copy_head(material.start, head)
    head_epoch = _train_head(material, options, head, is_new=is_new)
    if options.augmentation:
        may_stay = not (is_new and options.outlier_share)
        tuned = _tune_from_pixels(material, options, options.augmentation, features, scores, may_stay=may_stay)
    else:
        tuned = _tune_from_maps(material, options, features, scores)
    deep_epoch, inputs, of_training, of_validation = tuned
    base_networks.round_kernels(network)
    of_head = keras.Model(inputs, features)
    validation_features = fine_tuning.scores_of(of_head, of_validation, options.batch_cells)
    scores_of_validation = fine_tuning.scores_of(head, validation_features, options.batch_cells)
    labels = material.labels(material.images.training)
    rehearsal = _rehearsal(fine_tuning.scores_of(of_head, of_training[rehearsed(labels)], options.batch_cells), labels)
    otherwise = "" if options.precision == asked else f", trained in {options.precision}"
    if recipe.embedding_layers:
        features, training_features, validation_features = _frozen_features(material, options)
    else:
        training_features = fine_tuning.scores_of(of_head, of_training, options.batch_cells)
    return Trained(
        features,
        scores,
        training_features,
        validation_features,
        scores_of_validation,
        rehearsal,
        f"head of epoch {head_epoch}, then deeper layers of epoch {deep_epoch}{otherwise}",
    )


def _rehearsal(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Rehearsal:
    """Returns the features of the images that are `rehearsed`, with their labels."""
    return Rehearsal(halved(features), labels[rehearsed(labels)].astype(np.int8))


def _refuse_tuned_embedding(network: keras.Model, layers: tuple[str, ...], cut_layer: str) -> None:
    """Raises ConfigurationError if the embedding's input depends on a layer that is trained."""
    import keras

    frozen = keras.Model(network.inputs, network.get_layer(cut_layer).output).layers
    if tuned := set(layers) - {layer.name for layer in frozen}:
        raise ConfigurationError(
            f"The embedding's input has to come from frozen layers. Expected layers up to {cut_layer}, received "
            f"{', '.join(sorted(tuned))}."
        )


def _frozen_features(material: Material, options: Tuning) -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
    """Returns the embedding's input from frozen layers: the tensor, and its values for training and validation images.

    Training images occur twice, as they are and with the random changes of the stage, because a cell with such changes
    is not novel to the model.
    """
    import keras

    layers, images = material.recipe.embedding_layers, material.images
    tensors = base_networks.pooled_maps(material.network, layers, EMBEDDING_PARTS)
    training, validation = (
        np.sqrt(_side_by_side(material.outputs(tensors, split, what)))
        for split, what in ((images.training, "training embedding"), (images.validation, "validation embedding"))
    )
    features = base_networks.rooted(
        base_networks.pooled(material.network, layers, EMBEDDING_PARTS, name="frozen_features")
    )
    if augmentation := options.augmentation:
        pixels = material.outputs({"pixels": material.network.inputs[0]}, images.training, "training pixels")["pixels"]
        lower = keras.Model(material.network.inputs[0], {"features": features})
        changed = []
        for numbers, outputs in predict_pixels(
            FeatureExtractor(lower, options.batch_cells),
            range(len(pixels)),
            lambda number: [augmented_once(pixels[number], augmentation, material.seed, number)],
            batch_cells=options.batch_cells,
            n_threads=material.settings.reader_threads,
        ):
            changed.append(outputs["features"])
            material.on_progress("augmented embedding", numbers[-1] + 1, len(pixels))
        training = np.concatenate([training, *changed])
    return features, training, validation


def augmented_once(pixels: NDArray[np.uint8], augmentation: Augmentation, seed: int, number: int) -> NDArray[np.uint8]:
    """Returns the training image `number` with the random changes that the embedding is fitted with."""
    return augmented(pixels, augmentation, np.random.default_rng((seed, number)))


def _train_head(material: Material, options: Tuning, head: keras.Model, *, is_new: bool) -> int:
    """Trains the head on averaged maps of the frozen base network; returns its best epoch."""
    images, recipe = material.images, material.recipe
    tensors = base_networks.pooled_maps(material.network, recipe.feature_layers, recipe.pooled_parts)
    names = tuple(tensors)
    if options.augmentation is None:  # the second stage needs these maps, and one pass caches both
        tensors |= {options.cut_layer: base_networks.feature_map(material.network, options.cut_layer)}
    if recipe.embedding_layers:  # the embedding needs these
        tensors |= base_networks.pooled_maps(material.network, recipe.embedding_layers, EMBEDDING_PARTS)
    shown = [_side_by_side(each, names) for each in _shown(material, options, tensors)]
    validation = _side_by_side(material.outputs(tensors, images.validation, "validation features"), names)
    if is_new:
        _set_statistics(head.get_layer("head_norm"), np.concatenate(shown))
    training = fine_tuning.CachedRows(shown, material.labels(images.training))
    return _train(material, options, "head", head, training, validation)


def _tune_from_maps(material: Material, options: Tuning, features: Any, scores: Any) -> tuple[int, Any, Rows, Rows]:
    """Trains the layers above the cut on cached maps; returns the best epoch, the model's input and its rows."""
    import keras

    cut = base_networks.feature_map(material.network, options.cut_layer)
    maps = [each[options.cut_layer] for each in _shown(material, options, {options.cut_layer: cut})]
    validation = material.outputs({options.cut_layer: cut}, material.images.validation, "validation features")
    _thaw(keras.Model(cut, features))
    training = fine_tuning.CachedRows(maps, material.labels(material.images.training))
    kept = validation[options.cut_layer]
    epoch = _train(material, options, "deep", keras.Model(cut, scores), training, kept)
    return epoch, cut, maps[0], kept


def _tune_from_pixels(
    material: Material, options: Tuning, augmentation: Augmentation, features: Any, scores: Any, *, may_stay: bool
) -> tuple[int, Any, Rows, Rows]:
    """Trains the layers above the cut on augmented images, in a twin network that has the recipe's precision."""
    import keras

    recipe, network = material.recipe, material.network
    pixels = {"pixels": network.inputs[0]}
    training = material.outputs(pixels, material.images.training, "training pixels")["pixels"]
    validation = material.outputs(pixels, material.images.validation, "validation pixels")["pixels"]
    strategy = training_strategy(options.batch_cells)
    with strategy.scope() if strategy else nullcontext():
        twin = base_networks.build_base(
            base_of(material.variant),
            recipe.side_px,
            recipe.crop_px,
            options.precision,
            standardises_colour=recipe.standardises_colour,
        )
        with base_networks.in_precision(options.precision):
            twin_features = base_networks.pooled(twin, recipe.feature_layers, recipe.pooled_parts)
            trained = keras.Model(twin.inputs[0], _head(twin_features, recipe, options, material.seed))
    whole = keras.Model(network.inputs[0], scores)
    trained.set_weights(whole.get_weights())
    _thaw(keras.Model(twin.get_layer(options.cut_layer).output, twin_features))
    # otherwise its statistics would follow single batches, and the running mean of the weights would not match them
    trained.get_layer("head_norm").trainable = False
    shown = fine_tuning.AugmentedPixels(
        training,
        material.labels(material.images.training),
        augmentation,
        options.outlier_share,
        options.mild_share,
    )
    epoch = _train(material, options, "deep", trained, shown, validation, may_stay=may_stay)
    whole.set_weights(trained.get_weights())
    return epoch, network.inputs[0], training, validation


def _shown(material: Material, options: Tuning, tensors: dict[str, Any]) -> list[dict[str, Rows]]:
    return [
        material.outputs(
            tensors, material.images.training, f"training features {number + 1}/{options.transforms}", Turned(number)
        )
        for number in range(options.transforms)
    ]


def _train(
    material: Material,
    options: Tuning,
    name: Literal["head", "deep"],
    model: keras.Model,
    training: fine_tuning.Examples,
    validation: NDArray[Any] | Rows,
    *,
    may_stay: bool = True,
) -> int:
    stage = fine_tuning.Stage(
        name,
        options.head_epochs,
        options.head_learning_rate,
        options.weight_decay,
        options.batch_cells,
        options.patience,
        material.seed,
        may_stay=may_stay,
    )
    if name == "deep":
        stage = replace(
            stage,
            epochs=options.deep_epochs,
            learning_rate=options.deep_learning_rate,
            warm_up=options.warm_up,
            label_smoothing=options.label_smoothing,
            average_momentum=options.average_momentum,
        )
    return fine_tuning.train_stage(
        model,
        training,
        fine_tuning.CachedRows([validation], material.labels(material.images.validation)),
        stage,
        material.work,
        lambda done, total: material.on_progress(f"train {name}", done, total),
    )


def _head(features: Any, recipe: Recipe, options: Tuning, seed: int) -> Any:
    import keras

    normed = keras.layers.BatchNormalization(momentum=0.9, name="head_norm")(features)
    dropped = keras.layers.Dropout(options.dropout, seed=seed, name="head_dropout")(normed)
    initial = keras.initializers.GlorotUniform(seed=seed)
    # float32, whatever the precision of the other layers: a softmax of low-precision scores makes training poor
    return keras.layers.Dense(recipe.n_outputs, kernel_initializer=initial, dtype="float32", name="scores")(dropped)


def _set_statistics(norm: keras.layers.BatchNormalization, features: NDArray[np.float32]) -> None:
    """Starts the head's normalisation from the features' mean and variance, which running means reach only slowly."""
    norm.moving_mean.assign(features.mean(axis=0))
    norm.moving_variance.assign(features.var(axis=0))


def _thaw(upper: keras.Model) -> None:
    """Makes the layers above the cut trainable, except batch normalisation: batches are too small for statistics."""
    import keras

    for layer in upper.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)


def _side_by_side(outputs: dict[str, Rows], names: tuple[str, ...] | None = None) -> NDArray[np.float32]:
    return np.concatenate([outputs[name][:] for name in names or outputs], axis=1)
