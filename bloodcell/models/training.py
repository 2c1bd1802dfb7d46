"""Labelled images become a bundle: decode, split, cached features, SVM or staged fine-tuning, calibration, novelty.

A training that was killed is simply started again with the same arguments: cached features and epoch checkpoints lie in
`<data_dir>/training`, and it ends with the weights of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.groups import CELL_GROUPS
from bloodcell.models import assembly, calibration, networks, novelty, svm, tuning
from bloodcell.models.bundle import (
    FORMAT_VERSION,
    MODEL,
    SVM,
    Bundle,
    BundleManifest,
    DataSplit,
    ValidationMetrics,
    write_bundle,
)
from bloodcell.models.features import alone, cached_outputs
from bloodcell.models.images import read_image_folder, require_all_groups, split_images
from bloodcell.models.provenance import code_version, git_commit, library_versions
from bloodcell.models.recipes import SvmSearch, base_of, check_variant, default_recipe
from bloodcell.models.weights import load_base_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from bloodcell.models.images import ImageFolder, LabelledImage
    from bloodcell.models.recipes import Recipe, Tuning
    from bloodcell.models.weights import BaseWeights
    from bloodcell.settings import Settings

    OnProgress = Callable[[str, int, int], None]

log = logging.getLogger(__name__)

_SPLIT_RULE = "by image: of each class the lowest sha256 validate"


@dataclass(frozen=True, slots=True)
class _Material:
    """What every step of one training shares."""

    variant: str
    recipe: Recipe
    settings: Settings
    seed: int
    network: keras.Model
    base_weights: BaseWeights
    training: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    work: Path
    on_progress: OnProgress

    def labels(self, images: tuple[LabelledImage, ...]) -> NDArray[np.int64]:
        return np.array([CELL_GROUPS.index(image.group) for image in images])

    def outputs(
        self, tensors: dict[str, Any], images: tuple[LabelledImage, ...], what: str, transform: int = 0
    ) -> dict[str, NDArray[Any]]:
        return cached_outputs(
            self.network,
            tensors,
            images,
            transform=transform,
            weights_digest=self.base_weights.sha256,
            cache=self.settings.data_dir / "training" / "features",
            settings=self.settings,
            on_image=lambda done, total: self.on_progress(what, done, total),
        )


@dataclass(frozen=True, slots=True)
class _Trained:
    """A trained model before calibration; arrays are of training and validation images."""

    features: Any
    scores: Any
    training_features: NDArray[np.float32]
    validation_features: NDArray[np.float32]
    validation_scores: NDArray[np.float32]
    choice: str
    search_accuracy: float | None = None
    svm_file: Path | None = None


def train(
    variant: str,
    images: Path,
    settings: Settings,
    *,
    recipe: Recipe | None = None,
    base: str = "imagenet",
    seed: int = 0,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Bundle:
    """Trains one model and returns its bundle.

    Args:
        variant: One of `bloodcell.variants.VARIANTS`.
        images: FOLDER/<class>/*.jpg with the eight groups as classes.
        settings: Data folder, weights folder, image limits, batch size.
        recipe: How to train, default `recipes.default_recipe(variant)`.
        base: Base weights, `imagenet` or `random`.
        seed: Of everything random; on one machine the same seed gives the same weights.
        out: Folder the bundle is written into, default `<data_dir>/bundles`.
        on_progress: Called with the step's name, what is done and what there is to do in all.

    Raises:
        TrainingDataError: Images that cannot train a model.
        WeightsError: Base weights that are missing or altered.
        ConfigurationError: An unknown variant or a recipe that does not fit.
    """
    check_variant(variant)
    recipe = recipe or default_recipe(variant)
    on_progress = on_progress or (lambda step, done, total: None)
    on_progress("read images", 0, 1)
    folder = read_image_folder(images, settings)
    on_progress("read images", 1, 1)
    for broken in folder.broken:
        log.warning("Left out %s: %s", broken.path, broken.reason)
    require_all_groups(folder, images)
    network = networks.build_base(base_of(variant), recipe.side_px)
    base_weights = load_base_weights(network, base_of(variant), base, settings, seed)
    training, validation = split_images(folder.images, recipe.validation_fraction)
    work = settings.data_dir / "training" / _identity(variant, recipe, base_weights, folder, seed)
    material = _Material(
        variant, recipe, settings, seed, network, base_weights, training, validation, work, on_progress
    )
    with alone(work.parent / "locks" / work.name):
        work.mkdir(parents=True, exist_ok=True)
        trained = (
            _fine_tune(material, recipe.tuning) if recipe.tuning else _fit_svm(material, recipe.svm or SvmSearch())
        )
        bundle = _write(material, trained, folder, out or settings.data_dir / "bundles")
        shutil.rmtree(work)
    return bundle


def _identity(variant: str, recipe: Recipe, base_weights: BaseWeights, folder: ImageFolder, seed: int) -> str:
    identity = [variant, asdict(recipe), base_weights.sha256, folder.digest, seed, code_version()]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _fit_svm(material: _Material, options: SvmSearch) -> _Trained:
    recipe = material.recipe
    tensors = _means(material.network, recipe.feature_layers)
    training = np.sqrt(_side_by_side(material.outputs(tensors, material.training, "training features")))
    validation = np.sqrt(_side_by_side(material.outputs(tensors, material.validation, "validation features")))
    labels = material.labels(material.training)
    choice = svm.search(
        training, labels, options, material.seed, lambda done, total: material.on_progress("search SVM", done, total)
    )
    material.on_progress("fit SVM", 0, 1)
    pipeline = svm.fit(training, labels, choice)
    material.on_progress("fit SVM", 1, 1)
    features = networks.rooted(networks.pooled(material.network, recipe.feature_layers))
    return _Trained(
        features,
        svm.decision_layers(pipeline, features),
        training,
        validation,
        pipeline.decision_function(validation),
        f"{choice.kernel} kernel, gamma = {choice.gamma:g}, C = {choice.cost:g}",
        choice.accuracy,
        _dumped(pipeline, material.work / SVM),
    )


def _fine_tune(material: _Material, options: Tuning) -> _Trained:
    import keras

    network, layers = material.network, material.recipe.feature_layers
    features = networks.pooled(network, layers)
    scores = _head(features, options, material.seed)
    cut = networks.feature_map(network, options.cut_layer)
    tensors = {options.cut_layer: cut, **_means(network, layers)}
    shown = [
        material.outputs(tensors, material.training, f"training features {number + 1}/{options.transforms}", number)
        for number in range(options.transforms)
    ]
    validation = material.outputs(tensors, material.validation, "validation features")
    labels, validation_labels = material.labels(material.training), material.labels(material.validation)

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
    _set_statistics(keras.Model(features, scores).get_layer("head_norm"), np.concatenate(means))
    head_epoch = stage(
        "head",
        options.head_epochs,
        options.head_learning_rate,
        keras.Model(features, scores),
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
    return _Trained(
        features,
        scores,
        of_training,
        of_validation,
        tuning.scores_of(keras.Model(features, scores), of_validation, batch_cells),
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


def _side_by_side(outputs: dict[str, NDArray[Any]], layers: tuple[str, ...] | None = None) -> NDArray[np.float32]:
    names = [f"{layer}_mean" for layer in layers] if layers else list(outputs)
    return np.concatenate([outputs[name] for name in names], axis=1)


def _dumped(pipeline: Any, path: Path) -> Path:
    import skops.io

    skops.io.dump(pipeline, path)
    return path


def _write(material: _Material, trained: _Trained, folder: ImageFolder, out: Path) -> Bundle:
    recipe = material.recipe
    labels = material.labels(material.validation)
    temperature = calibration.fit_temperature(trained.validation_scores, labels)
    probabilities = calibration.softmax(trained.validation_scores, temperature)
    threshold = calibration.confidence_threshold(
        probabilities,
        labels,
        target_risk=recipe.target_risk,
        min_coverage=recipe.min_coverage,
        floor=recipe.min_confidence,
    )
    embedding = novelty.fit_embedding(
        trained.training_features, material.labels(material.training), recipe.embedding_dims
    )
    model = assembly.assemble(
        material.network.inputs[0],
        trained.features,
        trained.scores,
        temperature=temperature,
        embedding=embedding,
        name=material.variant,
    )
    model.save(material.work / MODEL)
    files = {MODEL: material.work / MODEL} | ({SVM: trained.svm_file} if trained.svm_file else {})
    manifest = BundleManifest(
        format_version=FORMAT_VERSION,
        variant=material.variant,
        classes=CELL_GROUPS,
        input_height_px=recipe.side_px,
        input_width_px=recipe.side_px,
        preprocessing=networks.PREPROCESSING[base_of(material.variant)],
        base_weights=material.base_weights,
        data=DataSplit(folder.digest, len(material.training), len(material.validation), _SPLIT_RULE),
        seed=material.seed,
        recipe=recipe,
        choice=trained.choice,
        code_version=code_version(),
        git_commit=git_commit(),
        libraries=library_versions(),
        metrics=_metrics(trained, probabilities, labels, threshold),
        temperature=temperature,
        confidence_threshold=threshold,
        novelty_threshold=novelty.novelty_threshold(
            embedding.novelty(trained.validation_features), recipe.novelty_flag_rate
        ),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )
    return write_bundle(out, manifest, files)


def _metrics(
    trained: _Trained, probabilities: NDArray[np.float64], labels: NDArray[np.int64], threshold: float
) -> ValidationMetrics:
    right = probabilities.argmax(axis=1) == labels
    covered = probabilities.max(axis=1) >= threshold
    if not covered.any():
        log.warning(
            "No validation cell reaches the confidence %.2f: the model leaves every cell unclassified.", threshold
        )
    return ValidationMetrics(
        accuracy=float(right.mean()),
        macro_sensitivity=float(np.mean([right[labels == each].mean() for each in np.unique(labels)])),
        negative_log_likelihood=calibration.negative_log_likelihood(probabilities, labels),
        uncalibrated_negative_log_likelihood=calibration.negative_log_likelihood(
            calibration.softmax(trained.validation_scores), labels
        ),
        coverage=float(covered.mean()),
        covered_accuracy=float(right[covered].mean()) if covered.any() else None,
        search_accuracy=trained.search_accuracy,
    )
