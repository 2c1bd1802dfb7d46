"""The two ways to fit a variant: an SVM on frozen features, or staged fine-tuning from cached maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.groups import CELL_GROUPS
from bloodcell.models import continuing, networks, svm, tuning
from bloodcell.models.bundle import SVM
from bloodcell.models.features import cached_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from bloodcell.models.features import Rows
    from bloodcell.models.images import LabelledImage, TrainingSet
    from bloodcell.models.recipes import Recipe, SvmSearch, Tuning
    from bloodcell.settings import Settings

    OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Material:
    """What every step of one training shares; `start` is the earlier model it goes on from, if any."""

    variant: str
    recipe: Recipe
    settings: Settings
    seed: int
    network: keras.Model
    start: keras.Model | None
    images: TrainingSet
    work: Path
    on_progress: OnProgress

    def labels(self, images: tuple[LabelledImage, ...]) -> NDArray[np.int64]:
        return np.array([CELL_GROUPS.index(image.group) for image in images])

    def outputs(
        self, tensors: dict[str, Any], images: tuple[LabelledImage, ...], what: str, transform: int = 0
    ) -> dict[str, Rows]:
        return cached_outputs(
            self.network,
            tensors,
            images,
            read=self.images.read,
            transform=transform,
            cache=self.settings.data_dir / "training" / "features",
            settings=self.settings,
            on_image=lambda done, total: self.on_progress(what, done, total),
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model before calibration; arrays are of training and validation images."""

    features: Any
    scores: Any
    training_features: NDArray[np.float32]
    validation_features: NDArray[np.float32]
    validation_scores: NDArray[np.float32]
    choice: str
    search_macro_sensitivity: float | None = None
    svm_file: Path | None = None


def fit_svm(material: Material, options: SvmSearch) -> Trained:
    """Returns an SVM on the averaged maps of the base's feature layers."""
    recipe = material.recipe
    tensors = _means(material.network, recipe.feature_layers)
    training = np.sqrt(_side_by_side(material.outputs(tensors, material.images.training, "training features")))
    validation = np.sqrt(_side_by_side(material.outputs(tensors, material.images.validation, "validation features")))
    labels = material.labels(material.images.training)
    choice = svm.search(
        training, labels, options, material.seed, lambda done, total: material.on_progress("search SVM", done, total)
    )
    material.on_progress("fit SVM", 0, 1)
    pipeline = svm.fit(training, labels, choice)
    material.on_progress("fit SVM", 1, 1)
    features = networks.rooted(networks.pooled(material.network, recipe.feature_layers))
    return Trained(
        features,
        svm.decision_layers(pipeline, features),
        training,
        validation,
        pipeline.decision_function(validation),
        f"{choice.kernel} kernel, gamma = {choice.gamma:g}, C = {choice.cost:g}",
        choice.macro_sensitivity,
        _dumped(pipeline, material.work / SVM),
    )


def fine_tune(material: Material, options: Tuning) -> Trained:
    """Returns the base with a head, and the layers above the cut trained together with it."""
    import keras

    network, layers = material.network, material.recipe.feature_layers
    features = networks.pooled(network, layers)
    scores = _head(features, options, material.seed)
    head = keras.Model(features, scores)
    cut = networks.feature_map(network, options.cut_layer)
    tensors = {options.cut_layer: cut, **_means(network, layers)}
    shown = [
        material.outputs(
            tensors, material.images.training, f"training features {number + 1}/{options.transforms}", number
        )
        for number in range(options.transforms)
    ]
    validation = material.outputs(tensors, material.images.validation, "validation features")
    labels, validation_labels = material.labels(material.images.training), material.labels(material.images.validation)

    def stage(name: str, epochs: int, learning_rate: float, trained: keras.Model, *inputs: Any) -> int:
        of_training, of_validation = inputs
        return tuning.train_stage(
            trained,
            tuning.Examples(of_training, labels),
            tuning.Examples([of_validation], validation_labels),
            tuning.Stage(
                name,
                epochs,
                learning_rate,
                options.weight_decay,
                options.batch_cells,
                options.patience,
                material.seed,
            ),
            material.work,
            lambda done, total: material.on_progress(f"train {name}", done, total),
        )

    means = [_side_by_side(each, layers) for each in shown]
    if material.start is not None:
        continuing.copy_head(material.start, head)
    else:
        _set_statistics(head.get_layer("head_norm"), np.concatenate(means))
    head_epoch = stage(
        "head",
        options.head_epochs,
        options.head_learning_rate,
        head,
        means,
        _side_by_side(validation, layers),
    )
    maps = [each[options.cut_layer] for each in shown]
    _thaw(keras.Model(cut, features))
    deep_epoch = stage(
        "deep",
        options.deep_epochs,
        options.deep_learning_rate,
        keras.Model(cut, scores),
        maps,
        validation[options.cut_layer],
    )
    batch_cells = options.batch_cells
    of_training = tuning.scores_of(keras.Model(cut, features), maps[0], batch_cells)
    of_validation = tuning.scores_of(keras.Model(cut, features), validation[options.cut_layer], batch_cells)
    return Trained(
        features,
        scores,
        of_training,
        of_validation,
        tuning.scores_of(head, of_validation, batch_cells),
        f"head of epoch {head_epoch}, then deeper layers of epoch {deep_epoch}",
    )


def _head(features: Any, options: Tuning, seed: int) -> Any:
    import keras

    normed = keras.layers.BatchNormalization(momentum=0.9, name="head_norm")(features)
    dropped = keras.layers.Dropout(options.dropout, seed=seed, name="head_dropout")(normed)
    initial = keras.initializers.GlorotUniform(seed=seed)
    return keras.layers.Dense(len(CELL_GROUPS), kernel_initializer=initial, name="scores")(dropped)


def _set_statistics(norm: keras.layers.BatchNormalization, features: NDArray[np.float32]) -> None:
    """Starts the head's normalisation from the features' own mean and variance: running means are slow to get there."""
    norm.moving_mean.assign(features.mean(axis=0))
    norm.moving_variance.assign(features.var(axis=0))


def _thaw(upper: keras.Model) -> None:
    """Makes the layers above the cut trainable but for batch normalisation: batches are too small for statistics."""
    import keras

    for layer in upper.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)


def _means(network: keras.Model, layers: tuple[str, ...]) -> dict[str, Any]:
    return {f"{layer}_mean": networks.pooled_map(network, layer) for layer in layers}


def _side_by_side(outputs: dict[str, Rows], layers: tuple[str, ...] | None = None) -> NDArray[np.float32]:
    names = [f"{layer}_mean" for layer in layers] if layers else list(outputs)
    return np.concatenate([outputs[name][:] for name in names], axis=1)


def _dumped(pipeline: Any, path: Path) -> Path:
    import skops.io

    skops.io.dump(pipeline, path)
    return path
