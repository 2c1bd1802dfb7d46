"""Each group is left out of a training in turn, and then looked for: what a blast would meet.

The features of an SVM variant are frozen: without a group only the embedding is another. A fine-tuned variant's are
not, so it is trained again without the group, on fewer images and for fewer epochs than what is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from bloodcell.decoding import ImageLimits, decode, resized
from bloodcell.groups import CELL_GROUPS
from bloodcell.models.bundle import Bundle, load_model
from bloodcell.models.images import LabelledImage, TrainingSet, digest_of, done_ahead, read_file, split_images
from bloodcell.models.novelty import fit_embedding, novelty_threshold
from bloodcell.models.recipes import Recipe
from bloodcell.models.training import train
from tests.paper.measuring import Found, Laboratory, a_few, found_among, kept_as, made_once, truth_of

N_OF_FEATURES = 400
N_TRAINED = 120
"""Images a class where only the embedding is fitted anew, and where a whole network is trained anew."""
N_EPOCHS = 4


def left_out(laboratory: Laboratory, pool: tuple[LabelledImage, ...]) -> dict[str, dict[str, Found]]:
    """Returns group -> model id -> how well it is found by a model that never saw it.

    Args:
        laboratory: Its `few` are what known and unknown cells are taken from.
        pool: Images that may be trained on.
    """
    found: dict[str, dict[str, Found]] = {group: {} for group in CELL_GROUPS}
    for bundle in laboratory.bundles:
        if bundle.manifest.recipe.svm:
            of_groups = _by_embedding(laboratory, bundle, a_few(pool, N_OF_FEATURES))
        else:
            of_groups = _by_training(laboratory, bundle, a_few(pool, N_TRAINED))
        for group, one in of_groups.items():
            found[group][bundle.model_id] = one
    return found


def _by_embedding(laboratory: Laboratory, bundle: Bundle, pool: tuple[LabelledImage, ...]) -> dict[str, Found]:
    recipe = bundle.manifest.recipe
    model = load_model(bundle)
    extractor = keras.Model(model.inputs, model.get_layer("rooted_features").output)
    of_pool, of_unseen = (_features(laboratory, bundle, extractor, images) for images in (pool, laboratory.few))
    labels, truth = truth_of(pool), truth_of(laboratory.few)
    validation = set(split_images(pool, recipe.validation_fraction)[1])
    validates = np.array([image in validation for image in pool])
    found = {}
    for number, group in enumerate(CELL_GROUPS):
        known = labels != number
        embedding = fit_embedding(of_pool[known & ~validates], labels[known & ~validates], recipe.embedding_dims)
        novelty, is_unknown = embedding.novelty(of_unseen), truth == number
        threshold = novelty_threshold(embedding.novelty(of_pool[known & validates]), recipe.novelty_flag_rate)
        above = float((novelty[is_unknown] > threshold).mean())
        found[group] = Found(float(roc_auc_score(is_unknown, novelty)), above, None)
    return found


def _features(
    laboratory: Laboratory, bundle: Bundle, extractor: keras.Model, images: tuple[LabelledImage, ...]
) -> np.ndarray:
    kept = laboratory.kept / bundle.model_id[:16] / f"features of {digest_of(images)[:12]}.npy"
    if not kept.exists():
        limits, parts = ImageLimits.of(laboratory.settings), []
        pixels: Callable[[LabelledImage], np.ndarray] = lambda image: resized(  # noqa: E731
            decode(read_file(image), limits), *bundle.input_size
        )
        for batch, cells in done_ahead(images, 32, laboratory.settings.reader_threads, pixels):
            parts.append(np.asarray(extractor(np.stack(cells))))
            laboratory.tell(f"features of {bundle.manifest.variant}", sum(map(len, parts)), len(images))
            del batch
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, np.concatenate(parts))
    return np.load(kept, allow_pickle=False)


def _by_training(laboratory: Laboratory, bundle: Bundle, pool: tuple[LabelledImage, ...]) -> dict[str, Found]:
    recipe = bundle.manifest.recipe
    assert recipe.tuning is not None
    short = replace(recipe, tuning=replace(recipe.tuning, deep_epochs=N_EPOCHS))
    return {group: _one_training(laboratory, bundle.manifest.variant, short, pool, group) for group in CELL_GROUPS}


def _one_training(
    laboratory: Laboratory, variant: str, recipe: Recipe, pool: Sequence[LabelledImage], group: str
) -> Found:
    images = tuple(image for image in pool if image.group != group)
    folder = laboratory.kept / f"{variant} without {group} {kept_as(recipe, images)}"
    training, validation = split_images(images, 0.1, groups=tuple(each for each in CELL_GROUPS if each != group))
    bundle = made_once(
        folder,
        lambda: train(
            variant,
            TrainingSet(training, validation, digest_of(images), f"without {group}", False, read_file),
            laboratory.settings,
            recipe=recipe,
            out=folder,
            on_progress=lambda step, done, total: laboratory.tell(f"{variant} without {group}: {step}", done, total),
        ),
    )
    of_group = tuple(image for image in laboratory.few if image.group == group)
    rest = tuple(image for image in laboratory.few if image.group != group)
    alone = replace(laboratory, bundles=[bundle])
    known, unknown = (alone.answers(name, each)[bundle.model_id] for name, each in (("rest", rest), (group, of_group)))
    return found_among(bundle, known, unknown)
