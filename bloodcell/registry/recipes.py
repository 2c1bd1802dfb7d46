"""How a variant is trained: every choice that can move its accuracy, in one frozen record that the bundle keeps.

The defaults are made for real images and can be run on two CPU cores: an SVM variant in minutes, a fine-tuned one in
hours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from bloodcell.cells.variants import VARIANTS
from bloodcell.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a training image is changed before it is shown; what is drawn is drawn anew each time.

    Attributes:
        rotation_deg: Turned by up to this many degrees either way; half of the images are also mirrored.
        zoom: Largest magnification less 1, as likely as the reduction by the same factor.
        shift: Moved by up to this share of the side along each axis.
        stain: Standard deviation of the logarithm of a factor on the optical density of all channels, and half of it
            for each channel on its own: more or less dye, and another shade of it. White stays white.
        brightness: Largest relative change of the light.
        blur_px: Largest standard deviation of a Gaussian blur, in pixels of the input.
        jpeg_quality: Lowest quality of a compression.
        degraded_share: Share of images that are blurred, and likewise of those that are compressed.
    """

    rotation_deg: float = 180.0
    zoom: float = 0.15
    shift: float = 0.03
    stain: float = 0.15
    brightness: float = 0.08
    blur_px: float = 1.2
    jpeg_quality: int = 40
    degraded_share: float = 0.15


@dataclass(frozen=True, slots=True)
class Tuning:
    """Staged fine-tuning: first the head alone, then the layers above the cut together with it.

    Attributes:
        cut_layer: Layers up to and including this one stay frozen; `pixels` freezes none.
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
        augmentation: Where set, the second stage starts from the pixels, and every epoch shows each image once, changed
            anew. Where not, it starts from cached maps: some ten times cheaper, with `transforms` as all there is.
        warm_up: Share of the second stage in which the step grows to its full size.
        label_smoothing: Probability that the second stage's targets give to all classes alike.
        average_momentum: Of the running mean of the second stage's weights, which is what is kept; 0 keeps the weights.
        precision: Keras' dtype policy of the second stage; the kept model is float32 whatever it is.
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
    augmentation: Augmentation | None = None
    warm_up: float = 0.0
    label_smoothing: float = 0.0
    average_momentum: float = 0.0
    precision: Literal["float32", "mixed_bfloat16"] = "float32"


@dataclass(frozen=True, slots=True)
class SvmSearch:
    """What cross-validation chooses from.

    Attributes:
        kernels: Kernels tried, of `linear` and `rbf`.
        gammas: Widths of the rbf kernel tried, in units of 1 / (number of features x their mean variance).
        costs: Values of C tried, for kernels scaled to a mean of 1 on the diagonal.
        folds: Stratified folds.
        max_images: Images the search looks at, at most; the chosen SVM is fitted on all.
        max_components: Principal axes the features are turned to, at most; None keeps the features. They make the
            machine six times smaller, and not worse.
    """

    kernels: tuple[str, ...] = ("linear", "rbf")
    gammas: tuple[float, ...] = (0.1, 0.25, 1.0)
    costs: tuple[float, ...] = (1.0, 10.0, 100.0)
    folds: int = 4
    max_images: int = 2_000
    max_components: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that defines a training apart from images, base weights and seed.

    Attributes:
        side_px: Height and width that the image is scaled to.
        crop_px: Height and width of the middle of it that the network looks at, the same where not set. The analyser
            puts the cell there; what lies farther out is its neighbours.
        feature_layers: Layers of the base whose maps are averaged and laid side by side: the features.
        pooled_parts: Shares of a map's height and width, in its middle, that are averaged, each giving its features.
        tuning: Staged fine-tuning; exactly one of `tuning` and `svm` is set.
        svm: Search for the SVM on frozen features.
        validation_fraction: Share of each class kept for early stopping, calibration and thresholds.
        embedding_layers: Layers below the cut whose maps, averaged over half of their height and width, the embedding
            of a fine-tuned variant sees; where empty, and for an SVM, it sees the features. Tuned layers have learnt to
            overlook stain and blur, and with them much of what is no cell: on training images, InceptionV3's found 55 %
            of wrongly and 28 % of hardly stained cells, `mixed2` 94 and 95 %; of groups left out, `mixed2` finds 48 %
            (benchmarks/accuracy/ABLATIONS.md).
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
    crop_px: int | None = None
    pooled_parts: tuple[float, ...] = (1.0,)
    validation_fraction: float = 0.2
    embedding_layers: tuple[str, ...] = ()
    embedding_dims: int = 256
    novelty_flag_rate: float = 0.03
    target_risk: float = 0.02
    min_coverage: float = 0.9
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        if (self.tuning is None) == (self.svm is None):
            raise ConfigurationError("A recipe fine-tunes or fits an SVM: expected exactly one of tuning and svm.")
        if self.embedding_layers and (self.tuning is None or set(self.embedding_layers) & set(self.feature_layers)):
            raise ConfigurationError(
                "embedding_layers are of a fine-tuned variant, and none of its feature_layers. Received: "
                f"{', '.join(self.embedding_layers)}, features of {', '.join(self.feature_layers)}."
            )


_FROM_PIXELS: Final = Tuning(
    cut_layer="mixed2",
    transforms=1,
    deep_epochs=10,
    deep_learning_rate=2e-4,
    weight_decay=1e-2,
    patience=5,
    augmentation=Augmentation(),
    warm_up=0.05,
    label_smoothing=0.05,
    average_momentum=0.995,
    precision="mixed_bfloat16",
)

_SVM_SEARCH: Final = SvmSearch(kernels=("rbf",), gammas=(0.5, 0.75, 1.0), costs=(10.0, 30.0), max_components=512)

DEFAULT_RECIPES: Final = {
    "vgg16": Recipe(
        180,
        ("block4_pool", "block5_pool"),
        crop_px=128,
        tuning=replace(_FROM_PIXELS, cut_layer="block3_pool", deep_epochs=8, deep_learning_rate=1e-4),
        validation_fraction=0.1,
        embedding_layers=("block3_pool",),
    ),
    "vgg16_svm": Recipe(
        180,
        ("block3_pool", "block4_pool"),
        crop_px=128,
        pooled_parts=(0.75, 0.5),
        svm=_SVM_SEARCH,
        validation_fraction=0.1,
    ),
    "inception_v3": Recipe(
        300,
        ("mixed7", "mixed8"),
        crop_px=192,
        tuning=_FROM_PIXELS,
        validation_fraction=0.1,
        embedding_layers=("mixed2",),
    ),
    "inception_v3_svm": Recipe(
        300,
        ("mixed0", "mixed1", "mixed2", "mixed3", "mixed4", "mixed5"),
        crop_px=192,
        pooled_parts=(0.5,),
        svm=_SVM_SEARCH,
        validation_fraction=0.1,
    ),
}
"""Recipe of each variant for real images.

Both of one base see the same pixels and leave the lowest layers as they are, so in one run these are computed once:
blocks 1 to 3 of VGG-16, InceptionV3 up to mixed2.
"""


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
