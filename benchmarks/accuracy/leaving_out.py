"""Each class is left out in turn and then looked for, as a stand-in for cells that no model was trained on.

The input of a shipped model's embedding comes from layers that its training did not change, so that without a class
only the embedding has to be fitted again, and for an SVM variant the SVM.
"""

from __future__ import annotations

import keras
import numpy as np

from benchmarks.accuracy.measuring import Found, Laboratory, area_under_curve, layers_of, truth_of
from benchmarks.accuracy.without_class import Split, fit_without
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage, digest_of
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.recipes import Augmentation, Recipe
from bloodcell.storage.decoding import ImageBounds, decode, resized
from bloodcell.training.fitting import augmented_once
from bloodcell.training.image_folders import read_file, split_images
from bloodcell.training.novelty import fit_embedding, novelty_threshold
from tests.artefacts import a_few

N_FITTED = 400
"""Images per class that the embedding is fitted on."""


def left_out(laboratory: Laboratory, pool: tuple[LabelledImage, ...]) -> dict[str, dict[str, Found]]:
    """Returns cell class -> model id -> how well the class is found by an embedding that never saw it.

    Models whose embedding uses tuned layers are left out, because these layers have seen the class.

    Args:
        laboratory: Its `few` are the known and unknown cells.
        pool: Images that may be trained on.
    """
    found: dict[str, dict[str, Found]] = {cell_class: {} for cell_class in CELL_CLASSES}
    frozen = [each for each in laboratory.bundles if each.manifest.recipe.svm or each.manifest.recipe.embedding_layers]
    for bundle in frozen:
        for cell_class, one in _of_classes(laboratory, bundle, a_few(pool, N_FITTED)).items():
            found[cell_class][bundle.model_id] = one
    return found


def _of_classes(laboratory: Laboratory, bundle: Bundle, pool: tuple[LabelledImage, ...]) -> dict[str, Found]:
    recipe, extractor = bundle.manifest.recipe, extractor_of(bundle)
    of_pool, of_unseen = (kept_features(laboratory, bundle, extractor, images) for images in (pool, laboratory.few))
    if recipe.svm:
        return _of_svm(Split(pool, of_pool), Split(laboratory.few, of_unseen), recipe)
    fitted_on = [of_pool]
    if recipe.tuning and recipe.tuning.augmentation:
        fitted_on.append(kept_features(laboratory, bundle, extractor, pool, recipe.tuning.augmentation))
    labels, truth = truth_of(pool), truth_of(laboratory.few)
    validation = set(split_images(pool, recipe.validation_fraction)[1])
    validates = np.array([image in validation for image in pool])
    found = {}
    for number, cell_class in enumerate(CELL_CLASSES):
        known = labels != number
        fitted = known & ~validates
        embedding = fit_embedding(
            np.concatenate([features[fitted] for features in fitted_on]),
            np.tile(labels[fitted], len(fitted_on)),
            recipe.embedding_dims,
        )
        novelty, is_unknown = embedding.distance(of_unseen), truth == number
        threshold = novelty_threshold(embedding.distance(of_pool[known & validates]), recipe.novelty_flag_rate)
        unknown = novelty[is_unknown]
        found[cell_class] = Found(
            area_under_curve(novelty[~is_unknown], unknown), float((unknown > threshold).mean()), None
        )
    return found


def _of_svm(pool: Split, unseen: Split, recipe: Recipe) -> dict[str, Found]:
    found = {}
    for number, cell_class in enumerate(CELL_CLASSES):
        fitted = fit_without(cell_class, pool, recipe)
        novelty, is_unknown = fitted.novelty(unseen.features), unseen.truth == number
        flagged = float((novelty[is_unknown] > fitted.novelty_threshold).mean())
        found[cell_class] = Found(area_under_curve(novelty[~is_unknown], novelty[is_unknown]), flagged, None)
    return found


def extractor_of(bundle: Bundle) -> keras.Model:
    """Returns the part of a model that computes its embedding's input, named features."""
    model = load_model(bundle)
    return keras.Model(model.inputs, {"features": model.get_layer("rooted_features").output})


def kept_features(
    laboratory: Laboratory,
    bundle: Bundle,
    extractor: keras.Model,
    images: tuple[LabelledImage, ...],
    augmentation: Augmentation | None = None,
) -> np.ndarray:
    """Returns the embedding's input for `images`, each changed once if an augmentation is given."""
    what = "changed features" if augmentation else "features"
    kept = laboratory.kept / bundle.model_id[:16] / f"{what} of {digest_of(images)[:12]}.npy"
    if not kept.exists():
        bounds, step = ImageBounds.of(laboratory.settings), f"{what} of {bundle.manifest.variant}"
        place = {image.sha256: number for number, image in enumerate(images)}

        def pixels(image: LabelledImage) -> np.ndarray:
            cell = resized(decode(read_file(image), bounds), *bundle.input_size)
            if augmentation is None:
                return cell
            return augmented_once(cell, augmentation, bundle.manifest.seed, place[image.sha256])

        outputs = layers_of(
            extractor,
            images,
            pixels,
            laboratory.settings,
            lambda done, total: laboratory.tell(step, done, total),
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, outputs["features"])
    features: np.ndarray = np.load(kept, allow_pickle=False)
    return features
