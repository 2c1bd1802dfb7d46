"""The models' outputs for held-out images with various changes; they are kept, so that a rerun resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.accuracy.shifts import SHIFTS, Shift
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage, digest_of
from bloodcell.evaluation.call_evaluation import Evaluation, evaluate_calls
from bloodcell.inference.batched_model import FeatureExtractor
from bloodcell.inference.model_output import ModelOutput, calls_of
from bloodcell.inference.predicting import predict_all, predict_pixels
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.recipes import Recipe
from bloodcell.settings import Settings
from bloodcell.storage.atomic_write import atomic_file
from tests.artefacts import ARTEFACTS, Change, reader, spoiling

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Laboratory:
    """What all measurements share.

    Attributes:
        bundles: The models.
        images: All images that none of them has seen.
        few: A few images of each class, for tables of many changes.
        settings: Image bounds, batch size.
        kept: Folder of outputs.
        tell: Called with the step's name, the amount of work done and the amount in all.
    """

    bundles: Sequence[Bundle]
    images: tuple[LabelledImage, ...]
    few: tuple[LabelledImage, ...]
    settings: Settings
    kept: Path
    tell: Callable[[str, int, int], None]

    def outputs(
        self, name: str, images: tuple[LabelledImage, ...], change: Change | None = None
    ) -> dict[str, ModelOutput]:
        """Returns model id -> its output for `images`, each changed by `change`."""
        missing = [bundle for bundle in self.bundles if not self._file(bundle, name, images).exists()]
        if missing:
            outputs = predict_all(
                missing,
                images,
                reader(change, self.settings),
                self.settings,
                lambda done, total: self.tell(name, done, total),
            )
            for bundle in missing:
                output, file = outputs[bundle.model_id], self._file(bundle, name, images)
                file.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(file) as whole:
                    np.savez(
                        whole,
                        probabilities=output.probabilities,
                        embedding=output.embedding,
                        novelty=output.novelty,
                    )
        found = {}
        for bundle in self.bundles:
            with np.load(self._file(bundle, name, images), allow_pickle=False) as kept:
                found[bundle.model_id] = ModelOutput(**{key: kept[key] for key in kept.files})
        return found

    def _file(self, bundle: Bundle, name: str, images: tuple[LabelledImage, ...]) -> Path:
        return self.kept / bundle.model_id[:16] / f"{digest_of(images)[:12]} {name.replace('/', '-')}.npz"


def layers_of(
    network: keras.Model,
    images: tuple[LabelledImage, ...],
    pixels: Callable[[LabelledImage], np.ndarray],
    settings: Settings,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Returns each output of a network with named outputs, for all images as read by `pixels`."""
    parts, n_done = [], 0
    for batch, outputs in predict_pixels(
        FeatureExtractor(network, settings.batch_cells),
        images,
        lambda image: [pixels(image)],
        batch_cells=settings.batch_cells,
        n_threads=settings.reader_threads,
    ):
        parts.append(outputs)
        n_done += len(batch)
        tell(n_done, len(images))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def kept_as(recipe: Recipe, images: tuple[LabelledImage, ...]) -> str:
    """Returns the name of a model made by `recipe` from `images`; it depends on every choice and every image."""
    return hashlib.sha256(f"{recipe} {digest_of(images)}".encode()).hexdigest()[:12]


def made_once(out: Path, make: Callable[[], Bundle]) -> Bundle:
    """Returns the bundle that an earlier run made in `out`, or makes it."""
    for manifest in sorted(out.glob("[0-9a-f]*/bundle.json")):
        return open_bundle(manifest.parent)
    return make()


def truth_of(images: Sequence[LabelledImage]) -> np.ndarray:
    """Returns the class number of each image, int (n,)."""
    return np.array([CELL_CLASSES.index(image.cell_class) for image in images])


def evaluated(bundle: Bundle, images: Sequence[LabelledImage], output: ModelOutput) -> Evaluation:
    """Returns the figures of one model's outputs."""
    return evaluate_calls(truth_of(images), output.probabilities, calls_of(bundle, output).unclassified)


def robustness(laboratory: Laboratory) -> dict[tuple[str, str], dict[str, Evaluation]]:
    """Returns (kind, strength) of a shift -> model id -> figures under it."""
    found = {}
    for kind, strengths in SHIFTS.items():
        for strength, shift in strengths.items():
            outputs = laboratory.outputs(f"{kind} {strength}".strip(), laboratory.few, shifting(shift))
            found[kind, strength] = {
                bundle.model_id: evaluated(bundle, laboratory.few, outputs[bundle.model_id])
                for bundle in laboratory.bundles
            }
    return found


def shifting(shift: Shift) -> Change:
    """Returns the change that applies a shift to every image."""
    return lambda _, cell: shift(cell)


@dataclass(frozen=True)
class Found:
    """How well unknown images are distinguished from known ones.

    Attributes:
        auroc: Probability that an unknown image has the higher novelty.
        above: Share of unknown images above the novelty threshold.
        unclassified: Share of them without a call, for any reason; None if it was not measured.
    """

    auroc: float
    above: float
    unclassified: float | None


def artefacts_found(laboratory: Laboratory) -> dict[str, dict[str, Found]]:
    """Returns artefact -> model id -> how well it is distinguished from the unseen cells."""
    known = laboratory.outputs("as they are", laboratory.few)
    found = {}
    for name, make in ARTEFACTS.items():
        outputs = laboratory.outputs(name, laboratory.few, spoiling(make, laboratory.few, laboratory.settings))
        found[name] = {
            bundle.model_id: found_among(bundle, known[bundle.model_id], outputs[bundle.model_id])
            for bundle in laboratory.bundles
        }
    return found


def area_under_curve(known: np.ndarray, unknown: np.ndarray) -> float:
    """Returns the probability that an unknown image has the higher novelty."""
    is_unknown = np.arange(len(known) + len(unknown)) >= len(known)
    return float(roc_auc_score(is_unknown, np.concatenate([known, unknown])))


def found_among(bundle: Bundle, known: ModelOutput, unknown: ModelOutput) -> Found:
    """Returns how well a model's novelty and its calls distinguish `unknown` from `known`."""
    return Found(
        area_under_curve(known.novelty, unknown.novelty),
        float((unknown.novelty > bundle.manifest.novelty_threshold).mean()),
        float(calls_of(bundle, unknown).unclassified.mean()),
    )
