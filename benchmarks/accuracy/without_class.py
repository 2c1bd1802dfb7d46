"""A model of an SVM variant that has never seen one of the classes, neither in its SVM nor in its embedding.

The base network of an SVM variant is ImageNet's and stays as it is. Without a class, only what comes after it has to be
fitted again, on features that are computed once. Thresholds are fitted by the product's own functions, on validation
images without the class.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.calls import Calls, decide
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.labelled_image import LabelledImage, TrainingSet, digest_of
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import IMAGES, Bundle, DataSplit, write_bundle, write_image_list
from bloodcell.registry.recipes import Recipe, SvmSearch
from bloodcell.registry.training_reference import reference_of
from bloodcell.training import base_networks, model_assembly, svm
from bloodcell.training.bundle_training import write_model
from bloodcell.training.calibration import confidence_threshold, fit_temperature, softmax
from bloodcell.training.image_folders import read_file, split_images
from bloodcell.training.novelty import Novelty, fit_embedding, novelty_threshold, with_evidence

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_NEVER: Final = -1e4
"""Score of the class that the model does not know: its probability is 0 at every temperature."""


@dataclass(frozen=True)
class Split:
    """Images of known classes, with their features in the same order.

    Attributes:
        images: The images.
        features: float32 (n, n_features).
    """

    images: tuple[LabelledImage, ...]
    features: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The class number of each image, int (n,)."""
        return np.array([CELL_CLASSES.index(image.cell_class) for image in self.images])

    def where(self, keeps: np.ndarray) -> Split:
        """Returns the images for which `keeps`, bool (n,), is true."""
        kept = tuple(image for image, keep in zip(self.images, keeps, strict=True) if keep)
        return Split(kept, self.features[keeps])


@dataclass(frozen=True)
class FittedModel:
    """An SVM, an embedding and their thresholds.

    Attributes:
        known: int (n_known,), the numbers of the classes that it knows.
        machine: The SVM; its decision is (n, n_known).
        choice: The SVM's kernel, gamma and C.
        temperature: Divisor of the scores.
        confidence_threshold: A cell with a lower confidence is left unclassified.
        unlike: Gives the novelty.
        columns: Features that its embedding reads.
        novelty_threshold: A cell with a higher novelty is left unclassified.
        training: Images that it was fitted on.
        validation: Images that set temperature and thresholds.
    """

    known: np.ndarray
    machine: Pipeline
    choice: svm.SvmChoice
    temperature: float
    confidence_threshold: float
    unlike: Novelty
    columns: slice
    novelty_threshold: float
    training: Split
    validation: Split

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Returns the score of each of the eight classes, (n, 8); `_NEVER` for a class that it does not know."""
        return _eight(self.machine.decision_function(features), self.known)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Returns the probability of each of the eight classes, (n, 8); that of a class that it does not know is 0."""
        return softmax(self.scores(features), self.temperature)

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Returns the novelty of cells with these features, (n,)."""
        return self.unlike.of(features[:, self.columns], self.scores(features))

    def calls(self, features: np.ndarray) -> Calls:
        """Returns what the model calls cells with these features."""
        return decide(
            self.probabilities(features),
            self.novelty(features),
            confidence_threshold=self.confidence_threshold,
            novelty_threshold=self.novelty_threshold,
        )


def fit_without(left_out: str | None, pool: Split, recipe: Recipe, seed: int = 0) -> FittedModel:
    """Returns a model that was fitted on `pool` without the images of one class.

    Args:
        left_out: The class; None: the model knows all of them.
        pool: Images of all classes.
        recipe: Of an SVM variant.
        seed: Seed of the search's folds.
    """
    options = recipe.svm
    assert isinstance(options, SvmSearch)
    names = tuple(name for name in CELL_CLASSES if name != left_out)
    known = pool.where(np.array([image.cell_class != left_out for image in pool.images]))
    _, validating = split_images(known.images, recipe.validation_fraction, names)
    chosen = {image.sha256 for image in validating}
    validates = np.array([image.sha256 in chosen for image in known.images])
    training, validation = known.where(~validates), known.where(validates)
    numbers = np.array([CELL_CLASSES.index(name) for name in names])
    # the search counts the images of classes 0, 1, 2 and so on, and takes a gap for a class without images
    of_training, of_validation = (np.searchsorted(numbers, split.truth) for split in (training, validation))
    choice = svm.search(training.features, of_training, options, seed, lambda done, total: None)
    machine = svm.fit(training.features, of_training, choice, options)
    scores = machine.decision_function(validation.features)
    temperature = fit_temperature(scores, of_validation)
    return FittedModel(
        numbers,
        machine,
        choice,
        temperature,
        confidence_threshold(
            softmax(scores, temperature),
            of_validation,
            target_risk=recipe.target_risk,
            min_coverage=recipe.min_coverage,
            floor=recipe.min_confidence,
        ),
        *_novelty(training, validation, _eight(scores, numbers), temperature, slice(None), recipe),
        training,
        validation,
    )


def _eight(scores: np.ndarray, known: np.ndarray) -> np.ndarray:
    every = np.full((len(scores), len(CELL_CLASSES)), _NEVER)
    every[:, known] = scores
    return every


def with_novelty_of(fitted: FittedModel, columns: slice, recipe: Recipe) -> FittedModel:
    """Returns the model with another novelty, from an embedding that reads only these features."""
    scores = fitted.scores(fitted.validation.features)
    found = _novelty(fitted.training, fitted.validation, scores, fitted.temperature, columns, recipe)
    unlike, columns, threshold = found
    return replace(fitted, unlike=unlike, columns=columns, novelty_threshold=threshold)


def _novelty(
    training: Split, validation: Split, scores: np.ndarray, temperature: float, columns: slice, recipe: Recipe
) -> tuple[Novelty, slice, float]:
    embedding = fit_embedding(training.features[:, columns], training.truth, recipe.embedding_dims)
    of_validation = validation.features[:, columns]
    unlike = with_evidence(embedding, of_validation, scores, temperature, recipe.evidence_share)
    return unlike, columns, novelty_threshold(unlike.of(of_validation, scores), recipe.novelty_flag_rate)


def write_fitted(fitted: FittedModel, like: Bundle, out: Path) -> Bundle:
    """Returns a bundle of the fitted model, which a database can register as it does any other.

    Args:
        fitted: The model; its novelty reads all features.
        like: A bundle of the variant; its base network computes the features.
        out: Folder of bundles.
    """
    import keras

    base, manifest = load_model(like), like.manifest
    recipe = manifest.recipe
    # again from the maps: an output of the loaded model would bring names that the new layers have, too
    features = base_networks.rooted(base_networks.pooled(base, recipe.feature_layers, recipe.pooled_parts))
    decision = svm.decision_layers(fitted.machine, features)
    into = np.zeros((len(fitted.known), len(CELL_CLASSES)))
    into[np.arange(len(fitted.known)), fitted.known] = 1
    never = np.where(into.any(axis=0), 0.0, _NEVER)
    scores = svm.dense(into, never, "eight_scores", "float64")(decision)
    model = model_assembly.assemble(
        base.inputs[0],
        features,
        keras.ops.cast(scores, "float64"),
        temperature=fitted.temperature,
        novelty=fitted.unlike,
        name=manifest.variant,
    )
    training, validation = fitted.training.images, fitted.validation.images
    rule = f"as the variant, without {sorted(set(CELL_CLASSES) - {CELL_CLASSES[number] for number in fitted.known})}"
    images = TrainingSet(training, validation, digest_of(training + validation), rule, False, read_file)
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        reference = reference_of(
            fitted.unlike.embedding.embed(fitted.validation.features),
            fitted.probabilities(fitted.validation.features),
            fitted.novelty(fitted.validation.features),
            fitted.validation.truth,
            follows_mix=False,
        )
        write_image_list(work / IMAGES, images)
        return write_bundle(
            out,
            replace(
                manifest,
                data=DataSplit(images.digest, len(training), len(validation), rule),
                choice=f"gamma = {fitted.choice.gamma:g}, C = {fitted.choice.cost:g}",
                temperature=fitted.temperature,
                confidence_threshold=fitted.confidence_threshold,
                novelty_threshold=fitted.novelty_threshold,
                files={},
            ),
            write_model(work, model, reference) | {IMAGES: work / IMAGES},
        )
