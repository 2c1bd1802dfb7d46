"""Runs bundles over a folder of labelled images, and evaluates them by the rule by which a nightly run calls cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import digest_of
from bloodcell.errors import TrainingDataError
from bloodcell.evaluation.call_evaluation import Evaluation, evaluate_calls
from bloodcell.inference.model_output import calls_of
from bloodcell.inference.predicting import predict_all
from bloodcell.registry.bundle import images_of, unseen_by
from bloodcell.training.image_folders import read_file, read_image_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bloodcell.inference.model_output import ModelOutput
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.training.image_folders import ImageFolder


@dataclass(frozen=True, slots=True)
class BundleEvaluation:
    """One bundle's evaluation on a folder of images.

    Attributes:
        model_id: The bundle's model id.
        variant: The bundle's variant.
        dataset_digest: Digest of the images and labels.
        n_broken: Files in the folder that could not be decoded and are not counted.
        n_seen: Cells on which the bundle was trained or validated, and which make the figures too good.
        evaluation: The figures.
    """

    model_id: str
    variant: str
    dataset_digest: str
    n_broken: int
    n_seen: int
    evaluation: Evaluation


def evaluate_bundles(
    images: Path,
    bundles: Sequence[Bundle],
    settings: Settings,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    unseen: bool = False,
) -> dict[str, BundleEvaluation]:
    """Returns model id -> its evaluation; all bundles are evaluated in one pass over the images.

    Args:
        images: FOLDER/<class>/*.jpg, for any of the eight classes.
        bundles: Opened bundles, at least one.
        settings: Image bounds, reader threads and batch size.
        on_progress: Called with the number of cells done and of all cells.
        unseen: Leave out the images on which any of the bundles was trained or validated.

    Raises:
        TrainingDataError: The folder has no images or none that is unseen, or a sub-folder is not named after a class.
        BundleError: A bundle that cannot be loaded.
    """
    folder = read_image_folders(settings, images)
    if unseen:
        folder = _unseen(folder, bundles, images)
    outputs = predict_all(bundles, folder.images, read_file, settings, on_progress)
    truth = np.array([CELL_CLASSES.index(image.cell_class) for image in folder.images])
    return {bundle.model_id: _evaluated(bundle, folder, truth, outputs[bundle.model_id]) for bundle in bundles}


def _unseen(folder: ImageFolder, bundles: Sequence[Bundle], path: Path) -> ImageFolder:
    images = unseen_by(bundles, folder.images)
    if not images:
        raise TrainingDataError(
            f"The models have seen all {len(folder.images):,} images in {path}. Expected images that were held out of "
            "their training (`bloodcell train --hold-out`), or new ones."
        )
    return replace(folder, images=images, digest=digest_of(images))


def _evaluated(bundle: Bundle, folder: ImageFolder, truth: NDArray[np.int64], output: ModelOutput) -> BundleEvaluation:
    calls, seen = calls_of(bundle, output), images_of(bundle)
    return BundleEvaluation(
        model_id=bundle.model_id,
        variant=bundle.title,
        dataset_digest=folder.digest,
        n_broken=len(folder.broken),
        n_seen=sum(image.sha256 in seen for image in folder.images),
        evaluation=evaluate_calls(truth, output.probabilities, calls.unclassified),
    )
