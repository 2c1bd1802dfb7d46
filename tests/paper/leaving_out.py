"""Each group is left out in turn, and then looked for: what a blast would meet.

What the embedding of a shipped model sees are layers that no image of ours has trained: without a group only the
embedding has to be fitted anew.
"""

from __future__ import annotations

import keras
import numpy as np

from bloodcell.decoding import ImageLimits, decode, resized
from bloodcell.groups import CELL_GROUPS
from bloodcell.models.bundle import Bundle, load_model
from bloodcell.models.images import LabelledImage, digest_of, read_file, split_images
from bloodcell.models.novelty import fit_embedding, novelty_threshold
from tests.paper.measuring import Found, Laboratory, a_few, area_under_curve, layers_of, truth_of

N_FITTED = 400
"""Images a class that the embedding is fitted on."""


def left_out(laboratory: Laboratory, pool: tuple[LabelledImage, ...]) -> dict[str, dict[str, Found]]:
    """Returns group -> model id -> how well it is found by an embedding that never saw it.

    The embeddings of models that tune what theirs sees are not among them: the layers know the group.

    Args:
        laboratory: Its `few` are what known and unknown cells are taken from.
        pool: Images that may be trained on.
    """
    found: dict[str, dict[str, Found]] = {group: {} for group in CELL_GROUPS}
    frozen = [each for each in laboratory.bundles if each.manifest.recipe.svm or each.manifest.recipe.embedding_layers]
    for bundle in frozen:
        for group, one in _of_groups(laboratory, bundle, a_few(pool, N_FITTED)).items():
            found[group][bundle.model_id] = one
    return found


def _of_groups(laboratory: Laboratory, bundle: Bundle, pool: tuple[LabelledImage, ...]) -> dict[str, Found]:
    recipe = bundle.manifest.recipe
    model = load_model(bundle)
    extractor = keras.Model(model.inputs, {"features": model.get_layer("rooted_features").output})
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
        unknown = novelty[is_unknown]
        found[group] = Found(area_under_curve(novelty[~is_unknown], unknown), float((unknown > threshold).mean()), None)
    return found


def _features(
    laboratory: Laboratory, bundle: Bundle, extractor: keras.Model, images: tuple[LabelledImage, ...]
) -> np.ndarray:
    kept = laboratory.kept / bundle.model_id[:16] / f"features of {digest_of(images)[:12]}.npy"
    if not kept.exists():
        limits, step = ImageLimits.of(laboratory.settings), f"features of {bundle.manifest.variant}"
        outputs = layers_of(
            extractor,
            images,
            lambda image: resized(decode(read_file(image), limits), *bundle.input_size),
            laboratory.settings,
            lambda done, total: laboratory.tell(step, done, total),
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, outputs["features"])
    return np.load(kept, allow_pickle=False)
