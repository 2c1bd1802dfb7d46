"""Which layers, parts of their maps, kernel and crop an SVM variant should have: cross-validated accuracy of each.

    python -m benchmarks.accuracy.ablation IMAGES [--work FOLDER] [--base inception_v3]

Features are kept in WORK: a run that was killed resumes, and another comparison takes minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.accuracy.measuring import truth_of
from benchmarks.accuracy.models import not_held_out
from bloodcell.presentation.numbers import percent
from bloodcell.registry.recipes import SvmSearch
from bloodcell.settings import Settings
from bloodcell.training import base_networks, svm
from bloodcell.training.base_weights import load_base_weights
from bloodcell.training.feature_cache import cached_outputs
from bloodcell.training.image_changes import AS_IS
from bloodcell.training.image_folders import read_file

N_FOLDS = 3


@dataclass(frozen=True)
class Choice:
    """One SVM: its features, and the parameters of its kernel."""

    layers: tuple[str, ...]
    side_px: int = 224
    crop_px: int = 160
    parts: tuple[float, ...] = (1.0,)
    gamma: float = 0.15
    cost: float = 100.0
    max_components: int | None = None

    def __str__(self) -> str:
        axes = f", {self.max_components} axes" if self.max_components else ""
        parts = " and ".join(f"{part:g}" for part in self.parts)
        kernel = f"gamma {self.gamma:g}, C {self.cost:g}{axes}"
        return f"{' '.join(self.layers)} | {parts} | {self.crop_px} of {self.side_px} px | {kernel}"


def _mixed(*numbers: int) -> tuple[str, ...]:
    return tuple(f"mixed{number}" for number in numbers)


_SIX = _mixed(0, 1, 2, 3, 4, 5)
_TWO = ("block3_pool", "block4_pool")

CHOICES = {
    "inception_v3": (
        Choice(_mixed(5, 7, 8)),
        Choice(_SIX),
        Choice(_SIX, max_components=512),
        Choice(_SIX, parts=(0.75,), max_components=512),
        Choice(_SIX, parts=(0.5,), max_components=512),
        Choice(_SIX, 300, 192, max_components=512),
        Choice(_SIX, 300, 192, parts=(0.5,), max_components=512),
        Choice(_SIX, 300, 192, parts=(0.75, 0.5), max_components=512),
    ),
    "vgg16": (
        Choice(("block4_pool",), 180, 128),
        Choice(("block4_pool", "block5_pool"), 180, 128),
        Choice(_TWO, 180, 128),
        Choice(_TWO, 180, 128, parts=(0.5,)),
        Choice(_TWO, 180, 128, parts=(0.75, 0.5)),
        Choice(_TWO, 180, 128, parts=(0.75, 0.5), max_components=512),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.ablation", description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--work", type=Path, default=Path("paper-work"))
    parser.add_argument("--base", choices=CHOICES, default="inception_v3")
    chosen = parser.parse_args()

    from bloodcell.presentation.progress import step_bars

    settings = Settings()
    images = not_held_out(chosen.images, settings)
    labels = truth_of(images)
    print(
        "| layers | part of the maps | input | SVM | accuracy | mean sensitivity | lowest sensitivity |\n"
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |"
    )
    for (side_px, crop_px), of_input in groupby(CHOICES[chosen.base], lambda choice: (choice.side_px, choice.crop_px)):
        network = base_networks.build_base(chosen.base, side_px, crop_px)
        load_base_weights(network, chosen.base, "imagenet", settings)
        maps = {choice: base_networks.pooled_maps(network, choice.layers, choice.parts) for choice in of_input}
        with step_bars() as tell:
            kept = cached_outputs(
                network,
                {name: tensor for each in maps.values() for name, tensor in each.items()},
                images,
                read=read_file,
                change=AS_IS,
                cache=chosen.work / "data" / "training" / "features",
                settings=settings,
                on_image=partial(tell, "features"),
            )
        for choice, names in maps.items():
            features = np.sqrt(np.maximum(np.concatenate([kept[name][:] for name in names], axis=1), 0))
            accuracy, *sensitivity = _cross_validated(features, labels, choice)
            mean, lowest = float(np.mean(sensitivity)), min(sensitivity)
            print(f"| {choice} | {percent(accuracy, 2)} | {percent(mean, 2)} | {percent(lowest, 2)} |", flush=True)


def _cross_validated(features: np.ndarray, labels: np.ndarray, choice: Choice) -> list[float]:
    """Returns accuracy, then the sensitivity of each class."""
    from sklearn.model_selection import StratifiedKFold

    right = np.zeros(len(labels), bool)
    settings, options = svm.SvmChoice(choice.gamma, choice.cost), SvmSearch(max_components=choice.max_components)
    for fitted, held in StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(features, labels):
        pipeline = svm.fit(features[fitted], labels[fitted], settings, options)
        right[held] = pipeline.predict(features[held]) == labels[held]
    return [float(right.mean()), *(float(right[labels == each].mean()) for each in np.unique(labels))]


if __name__ == "__main__":
    main()
