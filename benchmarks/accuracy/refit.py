"""Gives a fine-tuned model the embedding of its variant's current recipe; its probabilities do not change.

    python -m benchmarks.accuracy.refit BUNDLE IMAGES [IMAGES ...] --out FOLDER

IMAGES are the folders that the model was trained on: the embedding is fitted on the same images as the model's layers.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks.accuracy.measuring import layers_of, truth_of
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import Bundle, open_bundle, splits_of, write_bundle
from bloodcell.registry.recipes import default_recipe
from bloodcell.registry.training_reference import reference_of
from bloodcell.settings import Settings
from bloodcell.storage.decoding import ImageBounds, decode, resized
from bloodcell.training import base_networks, model_assembly, novelty
from bloodcell.training.bundle_training import write_model
from bloodcell.training.calibration import class_probabilities
from bloodcell.training.fitting import EMBEDDING_PARTS, augmented_once
from bloodcell.training.image_folders import read_file, read_image_folders
from bloodcell.training.provenance import git_commit


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.refit", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    refitted = refit(open_bundle(chosen.bundle), chosen.images, chosen.out)
    print(f"{refitted.model_id}\n  {refitted.folder}")


def refit(bundle: Bundle, folders: list[Path], out: Path) -> Bundle:
    """Returns a bundle like `bundle`, with embedding, novelty threshold and reference of the current recipe.

    Images are in the order of the bundle's list, not of the training, so that an image gets other random changes than
    in a training; nothing else differs.
    """
    settings, manifest = Settings(), bundle.manifest
    recipe = replace(manifest.recipe, embedding_layers=default_recipe(manifest.variant).embedding_layers)
    training, validation = (_images(bundle, split, folders, settings) for split in ("training", "validation"))
    model = load_model(bundle)
    seen = base_networks.rooted(
        base_networks.pooled(model, recipe.embedding_layers, EMBEDDING_PARTS, name="frozen_features")
    )
    scores = model.get_layer("scores").output
    network = keras.Model(model.inputs, {"seen": seen, "scores": scores})
    augmentation = recipe.tuning.augmentation if recipe.tuning else None
    assert augmentation is not None
    lower = keras.Model(model.inputs, {"seen": seen})
    bounds, place = ImageBounds.of(settings), {image: number for number, image in enumerate(training)}

    def pixels(image: LabelledImage) -> np.ndarray:
        return resized(decode(read_file(image), bounds), *bundle.input_size)

    def changed(image: LabelledImage) -> np.ndarray:
        return augmented_once(pixels(image), augmentation, manifest.seed, place[image])

    of_training, of_changed = (layers_of(lower, training, read, settings)["seen"] for read in (pixels, changed))
    of_validation = layers_of(network, validation, pixels, settings)
    embedding = novelty.fit_embedding(
        np.concatenate([of_training, of_changed]), np.tile(truth_of(training), 2), recipe.embedding_dims
    )
    unlike = novelty.with_evidence(
        embedding, of_validation["seen"], of_validation["scores"], manifest.temperature, recipe.evidence_share
    )
    of_known = unlike.of(of_validation["seen"], of_validation["scores"])
    probabilities = class_probabilities(of_validation["scores"], manifest.temperature)
    right = float((probabilities.argmax(axis=1) == truth_of(validation)).mean())
    assert abs(right - manifest.metrics.accuracy) < 1e-3, "these are not the images it was validated with"
    whole = model_assembly.assemble(
        model.inputs[0],
        seen,
        scores,
        temperature=manifest.temperature,
        novelty=unlike,
        name=manifest.variant,
    )
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        reference = reference_of(
            embedding.embed(of_validation["seen"]), probabilities, of_known, truth_of(validation), follows_mix=False
        )
        files = {name: bundle.folder / name for name in manifest.files}
        return write_bundle(
            out,
            replace(
                manifest,
                recipe=recipe,
                choice=f"{manifest.choice}; embedding fitted after the training, by {git_commit()[:12]}",
                novelty_threshold=novelty.novelty_threshold(of_known, recipe.novelty_flag_rate),
                files={},
            ),
            files | write_model(work, whole, reference),
        )


def _images(bundle: Bundle, split: str, folders: list[Path], settings: Settings) -> tuple[LabelledImage, ...]:
    """Returns the images of one split of the bundle."""
    known = {image.sha256: image for image in read_image_folders(settings, *folders).images}
    return tuple(known[sha256] for sha256, of_split in splits_of(bundle).items() if of_split == split)


if __name__ == "__main__":
    main()
