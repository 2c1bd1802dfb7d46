"""Gives a fine-tuned model the embedding of its variant's present recipe; what it calls a cell stays as it was.

    python -m tests.paper.refit BUNDLE IMAGES [IMAGES ...] --out FOLDER

IMAGES are the folders that it learnt from: the embedding is fitted on the same images as its layers were.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from bloodcell.decoding import ImageLimits, decode, resized
from bloodcell.models import assembly, networks, novelty
from bloodcell.models.bundle import IMAGES, MODEL, Bundle, load_model, open_bundle, write_bundle
from bloodcell.models.calibration import softmax
from bloodcell.models.compact import write_compact
from bloodcell.models.features import padded
from bloodcell.models.fitting import EMBEDDING_PARTS, changed_once
from bloodcell.models.images import LabelledImage, done_ahead, read_file, read_image_folders
from bloodcell.models.provenance import git_commit
from bloodcell.models.recipes import Augmentation, default_recipe
from bloodcell.models.reference import REFERENCE, reference_of, write_reference
from bloodcell.settings import Settings
from tests.paper.measuring import truth_of

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.paper.refit", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    refitted = refit(open_bundle(chosen.bundle), chosen.images, chosen.out)
    print(f"{refitted.model_id}\n  {refitted.folder}")


def refit(bundle: Bundle, folders: list[Path], out: Path) -> Bundle:
    """Returns a bundle like `bundle` with an embedding, novelty threshold and reference of the present recipe.

    The order of images is the list's, not the training's: which change an image gets differs, and nothing else.
    """
    settings, manifest = Settings(), bundle.manifest
    recipe = default_recipe(manifest.variant)
    assert replace(recipe, embedding_layers=()) == replace(manifest.recipe, embedding_layers=()), "of another recipe"
    training, validation = (_images(bundle, side, folders, settings) for side in ("training", "validation"))
    model = load_model(bundle)
    seen = networks.rooted(networks.pooled(model, recipe.embedding_layers, EMBEDDING_PARTS, name="frozen_features"))
    scores = model.get_layer("scores").output
    network = keras.Model(model.inputs, {"seen": seen, "scores": scores})
    augmentation = recipe.tuning.augmentation if recipe.tuning else None
    assert augmentation is not None
    lower = keras.Model(model.inputs, {"seen": seen})
    of_training = _outputs(lower, bundle, training, settings)["seen"]
    of_changed = _outputs(lower, bundle, training, settings, augmentation)["seen"]
    of_validation = _outputs(network, bundle, validation, settings)
    embedding = novelty.fit_embedding(
        np.concatenate([of_training, of_changed]), np.tile(truth_of(training), 2), recipe.embedding_dims
    )
    of_known = embedding.novelty(of_validation["seen"])
    probabilities = softmax(of_validation["scores"], manifest.temperature)
    right = float((probabilities.argmax(axis=1) == truth_of(validation)).mean())
    assert abs(right - manifest.metrics.accuracy) < 1e-3, "these are not the images it was validated with"
    whole = assembly.assemble(
        model.inputs[0],
        seen,
        scores,
        temperature=manifest.temperature,
        embedding=embedding,
        name=manifest.variant,
    )
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        whole.save(work / f"whole-{MODEL}")
        write_compact(work / f"whole-{MODEL}", work / MODEL)
        reference = reference_of(
            embedding.embed(of_validation["seen"]), probabilities, of_known, truth_of(validation), follows_mix=False
        )
        write_reference(work / REFERENCE, reference)
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
            files | {MODEL: work / MODEL, REFERENCE: work / REFERENCE},
        )


def _images(bundle: Bundle, side: str, folders: list[Path], settings: Settings) -> tuple[LabelledImage, ...]:
    """Returns the images of one side of the bundle's split."""
    known = {image.sha256: image for image in read_image_folders(settings, *folders).images}
    with (bundle.folder / IMAGES).open(newline="") as listed:
        rows = [row for row in csv.DictReader(listed) if row["side"] == side]
    return tuple(known[row["sha256"]] for row in rows)


def _outputs(
    network: keras.Model,
    bundle: Bundle,
    images: tuple[LabelledImage, ...],
    settings: Settings,
    augmentation: Augmentation | None = None,
) -> dict[str, np.ndarray]:
    limits, place = ImageLimits.of(settings), {image: number for number, image in enumerate(images)}

    def pixels(image: LabelledImage) -> np.ndarray:
        cell = resized(decode(read_file(image), limits), *bundle.input_size)
        return changed_once(cell, augmentation, bundle.manifest.seed, place[image]) if augmentation else cell

    parts = []
    for _, cells in done_ahead(images, BATCH, settings.reader_threads, pixels):
        outputs = network.predict_on_batch(padded(np.stack(cells), BATCH))
        parts.append({name: rows[: len(cells)] for name, rows in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    main()
