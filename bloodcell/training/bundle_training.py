"""Labelled images become a bundle: decode, split, cached features, SVM or staged fine-tuning, calibration, novelty.

A training that was killed resumes when it is called again with the same arguments, because cached features and
checkpoints are in `<data_dir>/training`. On the same machine it ends with the same weights as an undisturbed run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bloodcell.appearance.image_look import looks_of
from bloodcell.appearance.look_reference import LOOKS, MAX_IMAGES, look_reference, write_looks
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage, TrainingSet, digest_of
from bloodcell.cells.metrics import macro_sensitivity, negative_log_likelihood
from bloodcell.errors import ConfigurationError
from bloodcell.inference.keras_backend import load_backend
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import (
    FORMAT_VERSION,
    IMAGES,
    MODEL,
    Bundle,
    BundleManifest,
    DataSplit,
    ValidationMetrics,
    splits_of,
    write_bundle,
    write_image_list,
)
from bloodcell.registry.compact import write_compact
from bloodcell.registry.recipes import SvmSearch, base_of, check_variant, default_recipe
from bloodcell.registry.rehearsal import REHEARSAL, read_rehearsal, write_rehearsal
from bloodcell.registry.training_reference import REFERENCE, reference_of, write_reference
from bloodcell.training import base_networks, calibration, model_assembly, novelty
from bloodcell.training.base_weights import load_base_weights
from bloodcell.training.feature_cache import CACHE_VERSION, alone
from bloodcell.training.fitting import Material, Trained, fine_tune, fit_svm
from bloodcell.training.image_folders import (
    is_held_out,
    read_file,
    read_image_folders,
    require_all_classes,
    split_images,
)
from bloodcell.training.provenance import code_version, git_commit, library_versions
from bloodcell.training.warm_start import warm_start

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from bloodcell.appearance.look_reference import LookReference
    from bloodcell.registry.base_weights_record import BaseWeights
    from bloodcell.registry.recipes import Recipe
    from bloodcell.registry.rehearsal import Rehearsal
    from bloodcell.registry.training_reference import TrainingReference
    from bloodcell.settings import Settings
    from bloodcell.training.fitting import OnProgress

log = logging.getLogger(__name__)

_SPLIT_RULE = "by image: of each class, those with the lowest digits 21 to 40 of the sha256 are for validation"


def train(
    variant: str,
    images: Path | Sequence[Path] | TrainingSet,
    settings: Settings,
    *,
    recipe: Recipe | None = None,
    base: Literal["imagenet"] | Path | Bundle = "imagenet",
    seed: int = 0,
    holdout_fraction: float = 0.0,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Bundle:
    """Trains one model and returns its bundle.

    Args:
        variant: One of `bloodcell.cells.variants.VARIANTS`.
        images: A set of images; or a folder FOLDER/<class>/*.jpg with images of all eight classes, or several such
            folders, which are split by image.
        settings: Data folder, weights folder, image bounds, batch size.
        recipe: How to train, default `recipes.default_recipe(variant)`.
        base: Weights to start from: `imagenet`, a file of weights of the variant's base network, or a bundle of the
            same variant for a warm start.
        seed: Seed of everything random; on one machine the same seed gives the same weights.
        holdout_fraction: Share of the folders' images, chosen by their digests, that the training does not see.
        out: Folder that the bundle is written into, default `<data_dir>/bundles`.
        on_progress: Called with the step's name, the amount of work done and the amount in all.

    Raises:
        TrainingDataError: The images cannot train a model.
        WeightsError: Base weights are missing or altered.
        ConfigurationError: The variant is unknown, the recipe or the bundle does not fit, or a disk is full.
    """
    check_variant(variant)
    recipe = recipe or default_recipe(variant)
    on_progress = on_progress or (lambda step, done, total: None)
    if not isinstance(images, TrainingSet):
        on_progress("read images", 0, 1)
        folders = [images] if isinstance(images, Path) else images
        images = _set_of_folders(folders, recipe, settings, holdout_fraction)
        on_progress("read images", 1, 1)
    load_backend()
    network = base_networks.build_base(
        base_of(variant), recipe.side_px, recipe.crop_px, standardises_colour=recipe.standardises_colour
    )
    start: keras.Model | None = None
    remembered: Rehearsal | None = None
    if isinstance(base, Bundle):
        start = load_model(base)
        remembered = _remembered(base, images)
        base_weights = warm_start(base, start, network, variant, recipe)
    else:
        base_weights = load_base_weights(network, base_of(variant), base, settings)
    base_networks.round_kernels(network)
    work = settings.data_dir / "training" / _identity(variant, recipe, base_weights, images, seed)
    material = Material(variant, recipe, settings, seed, network, start, remembered, images, work, on_progress)
    with alone(work.parent / "locks" / work.name), _reporting_full_disk(settings.data_dir):
        work.mkdir(parents=True, exist_ok=True)
        trained = fine_tune(material, recipe.tuning) if recipe.tuning else fit_svm(material, recipe.svm or SvmSearch())
        earlier = base if isinstance(base, Bundle) else None
        bundle = _write(material, trained, base_weights, earlier, out or settings.data_dir / "bundles")
        shutil.rmtree(work)
    return bundle


@contextmanager
def _reporting_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and "No space left" not in str(error):
            raise
        raise ConfigurationError(
            f"The model cannot be written because a disk is full ({folder}): {error}. No incomplete bundle was left. "
            "Free space, then start the same training again: it resumes."
        ) from error


def _set_of_folders(
    folders: Sequence[Path], recipe: Recipe, settings: Settings, holdout_fraction: float
) -> TrainingSet:
    found = read_image_folders(settings, *folders)
    for broken in found.broken:
        log.warning("Left out %s: %s", broken.path, broken.reason)
    require_all_classes(found, *folders)
    seen = tuple(image for image in found.images if not is_held_out(image, holdout_fraction))
    training, validation = split_images(seen, recipe.validation_fraction)
    rule = _SPLIT_RULE
    if holdout_fraction:
        rule += f"; held out: {holdout_fraction:g} by the end of the sha256"
    return TrainingSet(training, validation, digest_of(seen), rule, False, read_file)


def _remembered(base: Bundle, images: TrainingSet) -> Rehearsal | None:
    """Returns what a model keeps of its training; None if that might show an image which now validates the new one."""
    split_of = splits_of(base) if IMAGES in base.manifest.files else {}
    seen = [image for image in images.validation if split_of.get(image.sha256) == "training"]
    if seen:
        log.warning(
            "Model %s was trained on %s of the %s validation images: figures of the new model are too good.",
            base.model_id[:12], f"{len(seen):,}", f"{len(images.validation):,}",
        )  # fmt: skip
    if REHEARSAL not in base.manifest.files:
        if base.manifest.recipe.svm:
            log.warning("Model %s keeps nothing of its training: only the new images are learnt.", base.model_id[:12])
        return None
    return None if seen else read_rehearsal(base)


def _identity(variant: str, recipe: Recipe, base_weights: BaseWeights, images: TrainingSet, seed: int) -> str:
    identity = [variant, asdict(recipe), base_weights.sha256, images.digest, seed, code_version(), CACHE_VERSION]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _write(
    material: Material, trained: Trained, base_weights: BaseWeights, earlier: Bundle | None, out: Path
) -> Bundle:
    recipe, images = material.recipe, material.images
    labels = material.labels(images.validation)
    temperature = calibration.fit_temperature(trained.validation_scores, labels)
    probabilities = calibration.class_probabilities(trained.validation_scores, temperature)
    threshold = calibration.confidence_threshold(
        probabilities,
        labels,
        target_risk=recipe.target_risk,
        min_coverage=recipe.min_coverage,
        floor=recipe.min_confidence,
    )
    times_seen = len(trained.training_features) // len(images.training)
    embedding = novelty.fit_embedding(
        trained.training_features, np.tile(material.labels(images.training), times_seen), recipe.embedding_dims
    )
    unlike = novelty.with_evidence(
        embedding, trained.validation_features, trained.validation_scores, temperature, recipe.evidence_share
    )
    model = model_assembly.assemble(
        material.network.inputs[0],
        trained.features,
        trained.scores,
        temperature=temperature,
        novelty=unlike,
        name=material.variant,
    )
    write_image_list(material.work / IMAGES, images, earlier)
    novelty_of_validation = unlike.of(trained.validation_features, trained.validation_scores)
    reference = reference_of(
        embedding.embed(trained.validation_features),
        probabilities,
        novelty_of_validation,
        labels,
        follows_mix=images.follows_mix,
    )
    write_rehearsal(material.work / REHEARSAL, trained.rehearsal)
    files = write_model(material.work, model, reference)
    files |= {name: material.work / name for name in (IMAGES, REHEARSAL)}
    looks = looks_known_from(
        images.training, images.read, material.settings, lambda done, total: material.on_progress("looks", done, total)
    )
    files |= write_look_file(material.work, looks)
    manifest = BundleManifest(
        format_version=FORMAT_VERSION,
        variant=material.variant,
        classes=CELL_CLASSES,
        input_height_px=recipe.side_px,
        input_width_px=recipe.side_px,
        preprocessing=base_networks.preprocessing(base_of(material.variant), recipe.standardises_colour),
        base_weights=base_weights,
        data=DataSplit(images.digest, len(images.training), len(images.validation), images.rule),
        seed=material.seed,
        recipe=recipe,
        choice=trained.choice,
        code_version=code_version(),
        git_commit=git_commit(),
        libraries=library_versions(),
        metrics=_metrics(trained, probabilities, labels, threshold),
        temperature=temperature,
        confidence_threshold=threshold,
        novelty_threshold=novelty.novelty_threshold(novelty_of_validation, recipe.novelty_flag_rate),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )
    return write_bundle(out, manifest, files)


def write_model(work: Path, model: keras.Model, reference: TrainingReference) -> dict[str, Path]:
    """Writes a model and its reference into `work`; returns the name of each file in a bundle -> where it is."""
    write_reference(work / REFERENCE, reference)
    return {MODEL: write_compact_model(work, model), REFERENCE: work / REFERENCE}


def write_compact_model(work: Path, model: keras.Model) -> Path:
    """Writes a model into `work` and returns its file."""
    model.save(work / f"whole-{MODEL}")
    write_compact(work / f"whole-{MODEL}", work / MODEL)
    return work / MODEL


def looks_known_from(
    images: Sequence[LabelledImage],
    read: Callable[[LabelledImage], bytes],
    settings: Settings,
    on_image: Callable[[int, int], None],
) -> LookReference | None:
    """Returns the looks of some of the images, for the bundle that learnt from them; None with too few images.

    Args:
        images: In the order of their digests, so that every n-th is a random part.
        read: Returns an image's file.
        settings: Image bounds and reader threads.
        on_image: Called with the number of images done, and the total.
    """
    sample = images[:: max(1, len(images) // MAX_IMAGES)][:MAX_IMAGES]
    return look_reference(looks_of(sample, read, settings, on_image))


def write_look_file(work: Path, looks: LookReference | None) -> dict[str, Path]:
    """Writes looks into `work`; returns the name of the file in a bundle -> where it is, empty without looks."""
    if looks is None:
        return {}
    write_looks(work / LOOKS, looks)
    return {LOOKS: work / LOOKS}


def _metrics(
    trained: Trained, probabilities: NDArray[np.float64], labels: NDArray[np.int64], threshold: float
) -> ValidationMetrics:
    right = probabilities.argmax(axis=1) == labels
    covered = probabilities.max(axis=1) >= threshold
    n_classes = int(labels.max()) + 1
    if not covered.any():
        log.warning(
            "No validation cell reaches the confidence %.2f: the model leaves every cell unclassified.", threshold
        )
    return ValidationMetrics(
        accuracy=float(right.mean()),
        macro_sensitivity=macro_sensitivity(np.bincount(labels[right], minlength=n_classes), np.bincount(labels)),
        negative_log_likelihood=negative_log_likelihood(probabilities, labels),
        uncalibrated_negative_log_likelihood=negative_log_likelihood(
            calibration.class_probabilities(trained.validation_scores), labels
        ),
        coverage=float(covered.mean()),
        covered_accuracy=float(right[covered].mean()) if covered.any() else None,
        search_macro_sensitivity=trained.search_macro_sensitivity,
    )
