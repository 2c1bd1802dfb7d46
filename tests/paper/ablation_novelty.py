"""Which layers the embedding of a fine-tuned variant should see: how well each tells groups left out, and artefacts.

    python -m tests.paper.ablation_novelty IMAGES [--base vgg16]

The embedding is fitted on two thirds of a part of the training images and judged on the rest; what models are measured
with in the end is not looked at. A group that is left out says nothing of tuned layers: they have seen it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from bloodcell.decoding import ImageLimits, decode, resized
from bloodcell.groups import CELL_GROUPS
from bloodcell.models import networks
from bloodcell.models.bundle import Bundle, load_model, open_bundle
from bloodcell.models.features import padded
from bloodcell.models.images import LabelledImage, done_ahead
from bloodcell.models.novelty import fit_embedding
from bloodcell.models.shipped import FOLDER
from bloodcell.settings import Settings
from tests.paper.artefacts import ARTEFACTS
from tests.paper.measuring import a_few, truth_of
from tests.paper.models import not_held_out

N_EACH, N_SPOILT = 300, 25
"""Images a class, and how many of them are also made artefacts of."""
BATCH = 32
FLAG_RATE = 0.03

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
    read = _Features(bundle, CHOICES[chosen.base], ImageLimits.of(settings))
    cells = read(images, lambda cell, number: cell)
    artefacts = {name: read(spoilt, read.spoiling(make, spoilt)) for name, make in ARTEFACTS.items()}
    print(
        "| layers | part of the maps | groups left out: AUROC | the least | flagged | "
        + " | ".join(ARTEFACTS)
        + " |\n| --- | ---: |"
        + " ---: |" * (3 + len(ARTEFACTS))
    )
    for number, (layers, part) in enumerate(CHOICES[chosen.base]):
        row = [" ".join(layers), f"{part:g}", *_left_out(cells[number], labels, judges, tuned=number == 0)]
        row += _told(cells[number], labels, judges, [of[number] for of in artefacts.values()])
        print(f"| {' | '.join(row)} |", flush=True)


class _Features:
    """What each choice of layers gives of images."""

    def __init__(self, bundle: Bundle, choices: Sequence[tuple[tuple[str, ...], float]], limits: ImageLimits) -> None:
        model = load_model(bundle)
        self._size, self._limits = bundle.input_size, limits
        maps = [networks.pooled_maps(model, layers, (part,)) for layers, part in choices]
        self._names = [tuple(each) for each in maps]
        self._network = keras.Model(model.inputs, {name: tensor for each in maps for name, tensor in each.items()})

    def __call__(
        self, images: tuple[LabelledImage, ...], change: Callable[[Image.Image, int], Image.Image]
    ) -> list[np.ndarray]:
        place = {image.sha256: number for number, image in enumerate(images)}

        def pixels(image: LabelledImage) -> np.ndarray:
            return resized(change(self._decoded(image), place[image.sha256]), *self._size)

        parts = [
            {
                name: rows[: len(cells)]
                for name, rows in self._network.predict_on_batch(padded(np.stack(cells), BATCH)).items()
            }
            for _, cells in done_ahead(images, BATCH, 2, pixels)
        ]
        whole = {name: np.sqrt(np.maximum(np.concatenate([part[name] for part in parts]), 0)) for name in parts[0]}
        return [np.concatenate([whole[name] for name in names], axis=1) for names in self._names]

    def spoiling(
        self, make: Callable[..., Image.Image], images: tuple[LabelledImage, ...]
    ) -> Callable[..., Image.Image]:
        """Returns what makes an artefact of a cell, with another cell's image where it takes two."""
        others = np.random.default_rng(0).permutation(len(images))
        return lambda cell, number: make(
            cell, self._decoded(images[others[number]]), np.random.default_rng(number)
        )  # fmt: skip

    def _decoded(self, image: LabelledImage) -> Image.Image:
        return decode(image.path.read_bytes(), self._limits)


def _left_out(features: np.ndarray, labels: np.ndarray, judges: np.ndarray, *, tuned: bool) -> list[str]:
    """Returns mean and least AUROC over the groups, and the mean share above what 3 % of known cells exceed."""
    if tuned:
        return ["-", "-", "-"]
    areas, flagged = [], []
    for group in range(len(CELL_GROUPS)):
        fitted = ~judges & (labels != group)
        novelty = fit_embedding(features[fitted], labels[fitted], 256).novelty(features[judges])
        unknown = labels[judges] == group
        areas.append(roc_auc_score(unknown, novelty))
        flagged.append((novelty[unknown] > np.quantile(novelty[~unknown], 1 - FLAG_RATE)).mean())
    return [f"{np.mean(areas):.3f}", f"{min(areas):.3f}", f"{100 * np.mean(flagged):.0f} %"]


def _told(features: np.ndarray, labels: np.ndarray, judges: np.ndarray, artefacts: Sequence[np.ndarray]) -> list[str]:
    """Returns AUROC of each artefact against known cells, and its share above what 3 % of these exceed."""
    embedding = fit_embedding(features[~judges], labels[~judges], 256)
    known = embedding.novelty(features[judges])
    found = []
    for rows in artefacts:
        novelty = embedding.novelty(rows)
        area = roc_auc_score(np.arange(len(known) + len(novelty)) >= len(known), np.concatenate([known, novelty]))
        found.append(f"{area:.3f}, {100 * (novelty > np.quantile(known, 1 - FLAG_RATE)).mean():.0f} %")
    return found


if __name__ == "__main__":
    main()
