"""How a variant is trained: every choice that can move its accuracy, in one frozen record that the bundle keeps.

The defaults are made for two CPU cores. A fine-tuned variant and the SVM variant of the same base share input size and
frozen lower blocks, so that a merged network runs those once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bloodcell.errors import ConfigurationError
from bloodcell.variants import VARIANTS


@dataclass(frozen=True, slots=True)
class Tuning:
    """Staged fine-tuning: first the head alone, then the layers above the cut together with it.

    Attributes:
        cut_layer: Layers up to and including this one stay frozen.
        transforms: How many of the eight flips and quarter turns each training image is shown in, 1 = as it is. A cell
            has no up or down on a smear, so each of them is as likely as the others.
        dropout: Share of features dropped before the last layer while training.
        batch_cells: Images per training step.
        head_epochs: Epochs of the first stage at most.
        head_learning_rate: AdamW's step in the first stage, falling to zero along a cosine.
        deep_epochs: Epochs of the second stage at most.
        deep_learning_rate: Likewise in the second stage.
        weight_decay: AdamW's weight decay in both stages.
        patience: Epochs without a better validation loss after which a stage ends.
    """

    cut_layer: str
    transforms: int = 2
    dropout: float = 0.3
    batch_cells: int = 32
    head_epochs: int = 40
    head_learning_rate: float = 1e-3
    deep_epochs: int = 12
    deep_learning_rate: float = 1e-4
    weight_decay: float = 1e-3
    patience: int = 4


@dataclass(frozen=True, slots=True)
class SvmSearch:
    """What cross-validation chooses from.

    Attributes:
        kernels: Kernels tried, of `linear` and `rbf`.
        gammas: Widths of the rbf kernel tried, in units of 1 / (number of features x their mean variance).
        costs: Values of C tried, for kernels scaled to a mean of 1 on the diagonal.
        folds: Stratified folds.
        max_images: Images the search looks at, at most; the chosen SVM is fitted on all.
    """

    kernels: tuple[str, ...] = ("linear", "rbf")
    gammas: tuple[float, ...] = (0.1, 0.25, 1.0)
    costs: tuple[float, ...] = (1.0, 10.0, 100.0)
    folds: int = 4
    max_images: int = 2_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that defines a training apart from images, base weights and seed.

    Attributes:
        side_px: Height and width of the network's input.
        feature_layers: Layers of the base whose maps are averaged and laid side by side: the features.
        tuning: Staged fine-tuning; exactly one of `tuning` and `svm` is set.
        svm: Search for the SVM on frozen features.
        validation_fraction: Share of each class kept for early stopping, calibration and thresholds.
        embedding_dims: Dimensions of the embedding, at most.
        novelty_flag_rate: Share of known validation cells the novelty threshold may flag.
        target_risk: Share of errors among the calls above the confidence threshold that is aimed at.
        min_coverage: Share of validation cells that stay above the confidence threshold whatever the risk, as long as
            they are above `min_confidence`.
        min_confidence: The confidence threshold is not below this, however good the model: what is likelier not of a
            group is not called that group.
    """

    side_px: int
    feature_layers: tuple[str, ...]
    tuning: Tuning | None = None
    svm: SvmSearch | None = None
    validation_fraction: float = 0.2
    embedding_dims: int = 64
    novelty_flag_rate: float = 0.03
    target_risk: float = 0.02
    min_coverage: float = 0.9
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        if (self.tuning is None) == (self.svm is None):
            raise ConfigurationError("A recipe fine-tunes or fits an SVM: expected exactly one of tuning and svm.")


DEFAULT_RECIPES: Final = {
    "vgg16": Recipe(160, ("block4_pool", "block5_pool"), tuning=Tuning(cut_layer="block4_pool")),
    "vgg16_svm": Recipe(160, ("block4_pool",), svm=SvmSearch()),
    "inception_v3": Recipe(224, ("mixed7", "mixed8"), tuning=Tuning(cut_layer="mixed7")),
    "inception_v3_svm": Recipe(224, ("mixed5", "mixed7", "mixed8"), svm=SvmSearch()),
}
"""Recipe of each variant for real images."""

DEMO_RECIPES: Final = {
    "vgg16": Recipe(
        64, ("block3_pool", "block4_pool"), tuning=Tuning(cut_layer="block3_pool", transforms=1, deep_epochs=4)
    ),
    "vgg16_svm": Recipe(64, ("block2_pool", "block3_pool"), svm=SvmSearch(kernels=("linear",), costs=(1.0, 10.0))),
    "inception_v3": Recipe(96, ("mixed2", "mixed3"), tuning=Tuning(cut_layer="mixed2", transforms=1, deep_epochs=4)),
    "inception_v3_svm": Recipe(96, ("mixed0", "mixed2"), svm=SvmSearch(kernels=("linear",), costs=(1.0, 10.0))),
}
"""Recipes for drawn cells and random base weights: a minute a variant on two cores, of no use for real images."""


def default_recipe(variant: str) -> Recipe:
    """Returns the default recipe of `variant`."""
    check_variant(variant)
    return DEFAULT_RECIPES[variant]


def check_variant(variant: str) -> None:
    """Raises ConfigurationError unless `variant` is one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise ConfigurationError(f"Unknown variant. Expected one of: {', '.join(VARIANTS)}. Received: {variant!r}.")


def base_of(variant: str) -> str:
    """Returns the base network of a variant: `vgg16` or `inception_v3`."""
    return variant.removesuffix("_svm")
