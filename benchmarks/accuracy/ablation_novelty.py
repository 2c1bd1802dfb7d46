"""Which layers the embedding of a fine-tuned variant should use: how well each finds left-out classes and artefacts.

    python -m benchmarks.accuracy.ablation_novelty IMAGES [--base vgg16]

The embedding is fitted on two thirds of a part of the training images, either as they are or also with the random
changes of a training, and evaluated on the rest. The images that models are finally measured on are not used.
For tuned layers, classes are not left out, because these layers have seen them.

For left-out classes: mean and lowest AUROC, and the share above the threshold that 3 % of known cells exceed. For each
artefact: AUROC and that share. For known cells under a mild shift: that share, which should be small.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from benchmarks.accuracy.measuring import area_under_curve, layers_of, shifting, truth_of
from benchmarks.accuracy.models import not_held_out
from benchmarks.accuracy.shifts import SHIFTS
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.inference.model_loading import load_model
from bloodcell.presentation.numbers import percent
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.recipes import default_recipe
from bloodcell.registry.shipped import FOLDER
from bloodcell.settings import Settings
from bloodcell.storage.decoding import ImageBounds, decode, resized
from bloodcell.training import base_networks
from bloodcell.training.fitting import augmented_once
from bloodcell.training.image_folders import read_file
from bloodcell.training.novelty import COMMON_SHARE, Embedding, fit_embedding, novelty_threshold
from tests.artefacts import ARTEFACTS, Change, a_few, spoiling

N_EACH, N_SPOILT = 300, 25
"""Images per class, and how many of them also become artefacts."""
MILD = (
    ("hue turned by", "+10°"),
    ("saturation times", "0.75"),
    ("brightness times", "1.15"),
    ("blurred, sigma", "1 px"),
    ("JPEG quality", "25"),
)
WAYS = (
    ("as they are, plain distance", 1, 1.0),
    ("as they are", 1, COMMON_SHARE),
    ("and changed", 2, COMMON_SHARE),
)
"""What an embedding is fitted on, number of forms of each image, and `common_share`."""
N_DIMS, FLAG_RATE = default_recipe("inception_v3").embedding_dims, default_recipe("inception_v3").novelty_flag_rate

CHOICES = {
    "inception_v3": (
        (("mixed7", "mixed8"), 1.0),
        (("mixed2",), 1.0),
        (("mixed0",), 0.5),
        (("mixed1",), 0.5),
        (("mixed2",), 0.5),
        (("mixed0", "mixed1", "mixed2"), 0.5),
    ),
    "vgg16": (
        (("block4_pool", "block5_pool"), 1.0),
        (("block3_pool",), 1.0),
        (("block2_pool",), 0.5),
        (("block3_pool",), 0.5),
        (("block1_pool", "block2_pool", "block3_pool"), 0.5),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.ablation_novelty", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--base", choices=CHOICES, default="inception_v3")
    chosen = parser.parse_args()

    settings = Settings()
    bundle = open_bundle(FOLDER / chosen.base)
    images = a_few(not_held_out(chosen.images, settings), N_EACH)
    labels = truth_of(images)
    judges = np.random.default_rng(0).integers(0, 3, len(images)) == 0
    spoilt = a_few(tuple(image for image, judge in zip(images, judges, strict=True) if judge), N_SPOILT)
    read = _Features(bundle, CHOICES[chosen.base], settings)
    augmentation = bundle.manifest.recipe.tuning and bundle.manifest.recipe.tuning.augmentation
    assert augmentation
    place = {image: number for number, image in enumerate(images)}
    cells = read(images)
    changed = read(images, once=lambda image, pixels: augmented_once(pixels, augmentation, 0, place[image]))
    artefacts = {name: read(spoilt, spoiling(make, spoilt, settings)) for name, make in ARTEFACTS.items()}
    shifted = {f"{kind} {strength}": read(spoilt, shifting(SHIFTS[kind][strength])) for kind, strength in MILD}
    columns = ["layers", "part", "fitted on", "classes left out", "flagged", *artefacts, *shifted]
    print(f"| {' | '.join(columns)} |\n| --- | ---: | --- |{' ---: |' * (len(columns) - 3)}")
    for number, (layers, part) in enumerate(CHOICES[chosen.base]):
        tuned = set(layers) <= set(bundle.manifest.recipe.feature_layers)
        for what, fitted_on, share in WAYS:
            of_all = [each[number] for each in (cells, changed)[:fitted_on]]
            judged = _Judged(of_all, labels, judges, share)
            row = [" ".join(layers), f"{part:g}", what, *(["-"] * 2 if tuned else judged.left_out())]
            row += judged.found([of[number] for of in artefacts.values()], [of[number] for of in shifted.values()])
            print(f"| {' | '.join(row)} |", flush=True)


class _Features:
    """The features of images for each choice of layers."""

    def __init__(self, bundle: Bundle, choices: Sequence[tuple[tuple[str, ...], float]], settings: Settings) -> None:
        model = load_model(bundle)
        self._size, self._settings = bundle.input_size, settings
        maps = [base_networks.pooled_maps(model, layers, (part,)) for layers, part in choices]
        self._names = [tuple(each) for each in maps]
        self._network = keras.Model(model.inputs, {name: tensor for each in maps for name, tensor in each.items()})

    def __call__(
        self,
        images: tuple[LabelledImage, ...],
        change: Change = lambda _, cell: cell,
        once: Callable[[LabelledImage, np.ndarray], np.ndarray] = lambda _, pixels: pixels,
    ) -> list[np.ndarray]:
        bounds = ImageBounds.of(self._settings)

        def pixels(image: LabelledImage) -> np.ndarray:
            return once(image, resized(change(image, decode(read_file(image), bounds)), *self._size))

        outputs = layers_of(self._network, images, pixels, self._settings)
        return [np.sqrt(np.concatenate([outputs[name] for name in names], axis=1).clip(0)) for names in self._names]


@dataclass(frozen=True)
class _Judged:
    """One choice of layers: the features that embeddings are fitted on, and the images that evaluate them.

    Attributes:
        features: Of all images: as they are, then with random changes if these are used.
        labels: Class of each image.
        judges: Images of known cells that evaluate the embedding; it is fitted on the others.
        common_share: As `fit_embedding` takes it.
    """

    features: Sequence[np.ndarray]
    labels: np.ndarray
    judges: np.ndarray
    common_share: float

    def _fitted(self, where: np.ndarray) -> Embedding:
        rows = np.concatenate([each[where] for each in self.features])
        return fit_embedding(rows, np.tile(self.labels[where], len(self.features)), N_DIMS, self.common_share)

    def left_out(self) -> list[str]:
        areas, flagged = [], []
        for cell_class in range(len(CELL_CLASSES)):
            novelty = self._fitted(~self.judges & (self.labels != cell_class)).distance(self.features[0][self.judges])
            unknown = self.labels[self.judges] == cell_class
            areas.append(area_under_curve(novelty[~unknown], novelty[unknown]))
            flagged.append(_flagged(novelty[~unknown], novelty[unknown]))
        return [f"{np.mean(areas):.3f}, {min(areas):.3f}", percent(float(np.mean(flagged)), 0)]

    def found(self, artefacts: Sequence[np.ndarray], shifted: Sequence[np.ndarray]) -> list[str]:
        embedding = self._fitted(~self.judges)
        known = embedding.distance(self.features[0][self.judges])
        of_artefacts = [embedding.distance(rows) for rows in artefacts]
        return [
            *(f"{area_under_curve(known, each):.3f}, {percent(_flagged(known, each), 0)}" for each in of_artefacts),
            *(percent(_flagged(known, embedding.distance(rows)), 0) for rows in shifted),
        ]


def _flagged(known: np.ndarray, unknown: np.ndarray) -> float:
    return float((unknown > novelty_threshold(known, FLAG_RATE)).mean())


if __name__ == "__main__":
    main()
