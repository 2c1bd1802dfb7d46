"""Gives a model of an earlier release what bundles of this one keep of training images: looks and some features.

    python -m benchmarks.accuracy.remember BUNDLE IMAGES [IMAGES ...] --out FOLDER [--cells 64]

IMAGES are folders with nearly all images that the model was trained on; drawn ones of another release may be missing.
The network, its thresholds and all calls stay as they are. With these files the model can be calibrated for a
laboratory, and slides that look otherwise are withheld.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy.measuring import layers_of, truth_of
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import Bundle, open_bundle, splits_of, write_bundle
from bloodcell.registry.compact import halved
from bloodcell.registry.rehearsal import CELLS_PER_CLASS, REHEARSAL, Rehearsal, rehearsed, write_rehearsal
from bloodcell.settings import Settings
from bloodcell.site.site_model import parent_outputs
from bloodcell.storage.decoding import ImageBounds, decode, resized
from bloodcell.training.bundle_training import looks_known_from, write_look_file
from bloodcell.training.image_folders import read_file, read_image_folders
from bloodcell.training.provenance import git_commit


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.remember", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=CELLS_PER_CLASS, help="features that are kept of each class")
    chosen = parser.parse_args()
    made = remember(open_bundle(chosen.bundle), chosen.images, chosen.out, chosen.cells)
    print(f"{made.model_id}\n  {made.folder}")


def remember(bundle: Bundle, folders: list[Path], out: Path, n_cells: int) -> Bundle:
    """Returns a bundle like `bundle` that also has looks and features of some of its training images."""
    settings, manifest = Settings(), bundle.manifest
    splits = splits_of(bundle)
    found = sorted(read_image_folders(settings, *folders).images, key=lambda image: image.sha256)
    training = tuple(image for image in found if splits.get(image.sha256) == "training")
    assert len(training) > 0.9 * manifest.data.n_training, "these are not the images it was trained on"
    truth, bounds = truth_of(training), ImageBounds.of(settings)
    chosen = rehearsed(truth, n_cells)

    def pixels(image: LabelledImage) -> np.ndarray:
        return resized(decode(read_file(image), bounds), *bundle.input_size)

    network = parent_outputs(load_model(bundle), manifest.variant)
    features = layers_of(network, tuple(training[each] for each in chosen), pixels, settings)["features"]
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        write_rehearsal(work / REHEARSAL, Rehearsal(halved(features), truth[chosen].astype(np.int8)))
        files = {name: bundle.folder / name for name in manifest.files} | {REHEARSAL: work / REHEARSAL}
        files |= write_look_file(work, looks_known_from(training, read_file, settings, lambda *_: None))
        choice = f"{manifest.choice}; looks and features of training images added by {git_commit()[:12]}"
        return write_bundle(out, replace(manifest, choice=choice, files={}), files)


if __name__ == "__main__":
    main()
