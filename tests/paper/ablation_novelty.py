"""Which layers the embedding of a fine-tuned variant should see: how well each tells groups left out, and artefacts.

    python -m tests.paper.ablation_novelty IMAGES [--base vgg16]

The embedding is fitted on two thirds of a part of the training images and judged on the rest; what models are measured
with in the end is not looked at. A group that is left out says nothing of tuned layers: they have seen it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from bloodcell.decoding import ImageLimits, decode, resized
from bloodcell.groups import CELL_GROUPS
from bloodcell.models import networks
from bloodcell.models.bundle import Bundle, load_model, open_bundle
from bloodcell.models.images import LabelledImage, read_file
from bloodcell.models.novelty import fit_embedding, novelty_threshold
from bloodcell.models.recipes import default_recipe
from bloodcell.models.shipped import FOLDER
from bloodcell.settings import Settings
from tests.paper.artefacts import ARTEFACTS
from tests.paper.measuring import Change, a_few, area_under_curve, layers_of, spoiling, truth_of
from tests.paper.models import not_held_out

N_EACH, N_SPOILT = 300, 25
"""Images a class, and how many of them are also made artefacts of."""
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
        prog="python -m tests.paper.ablation_novelty", description=(__doc__ or "").split("\n")[0]
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
    cells = read(images, lambda image, cell: cell)
    artefacts = {name: read(spoilt, spoiling(make, spoilt, settings)) for name, make in ARTEFACTS.items()}
    print(
        "| layers | part of the maps | groups left out: AUROC | the least | flagged | "
        + " | ".join(ARTEFACTS)
        + " |\n| --- | ---: |"
        + " ---: |" * (3 + len(ARTEFACTS))
    )
    for number, (layers, part) in enumerate(CHOICES[chosen.base]):
        tuned = set(layers) <= set(bundle.manifest.recipe.feature_layers)
        row = [" ".join(layers), f"{part:g}", *(["-"] * 3 if tuned else _left_out(cells[number], labels, judges))]
        row += _told(cells[number], labels, judges, [of[number] for of in artefacts.values()])
        print(f"| {' | '.join(row)} |", flush=True)


class _Features:
    """What each choice of layers gives of images."""

    def __init__(self, bundle: Bundle, choices: Sequence[tuple[tuple[str, ...], float]], settings: Settings) -> None:
        model = load_model(bundle)
        self._size, self._settings = bundle.input_size, settings
        maps = [networks.pooled_maps(model, layers, (part,)) for layers, part in choices]
        self._names = [tuple(each) for each in maps]
        self._network = keras.Model(model.inputs, {name: tensor for each in maps for name, tensor in each.items()})

    def __call__(self, images: tuple[LabelledImage, ...], change: Change) -> list[np.ndarray]:
        limits = ImageLimits.of(self._settings)

        def pixels(image: LabelledImage) -> np.ndarray:
            return resized(change(image, decode(read_file(image), limits)), *self._size)

        outputs = layers_of(self._network, images, pixels, self._settings)
        return [np.sqrt(np.concatenate([outputs[name] for name in names], axis=1).clip(0)) for names in self._names]


def _left_out(features: np.ndarray, labels: np.ndarray, judges: np.ndarray) -> list[str]:
    """Returns mean and least AUROC over the groups, and the mean share above what 3 % of known cells exceed."""
    areas, flagged = [], []
    for group in range(len(CELL_GROUPS)):
        fitted, unknown = ~judges & (labels != group), labels[judges] == group
        novelty = fit_embedding(features[fitted], labels[fitted], N_DIMS).novelty(features[judges])
        areas.append(area_under_curve(novelty[~unknown], novelty[unknown]))
        flagged.append(_flagged(novelty[~unknown], novelty[unknown]))
    return [f"{np.mean(areas):.3f}", f"{min(areas):.3f}", f"{100 * np.mean(flagged):.0f} %"]


def _told(features: np.ndarray, labels: np.ndarray, judges: np.ndarray, artefacts: Sequence[np.ndarray]) -> list[str]:
    """Returns AUROC of each artefact against known cells, and its share above what 3 % of these exceed."""
    embedding = fit_embedding(features[~judges], labels[~judges], N_DIMS)
    known = embedding.novelty(features[judges])
    found = (embedding.novelty(rows) for rows in artefacts)
    return [f"{area_under_curve(known, each):.3f}, {100 * _flagged(known, each):.0f} %" for each in found]


def _flagged(known: np.ndarray, unknown: np.ndarray) -> float:
    return float((unknown > novelty_threshold(known, FLAG_RATE)).mean())


if __name__ == "__main__":
    main()
