"""How a variant is trained: every choice that can change its accuracy, in one record that the bundle keeps.

The defaults are for real images and run on two CPU cores: an SVM variant takes minutes, a fine-tuned one hours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.variants import VARIANTS
from bloodcell.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random changes of a training image, drawn again each time it is used.

    Attributes:
        rotation_deg: Largest rotation in degrees, either way; half of the images are also mirrored.
        zoom: Largest magnification minus 1; a reduction by the same factor is as likely.
        shift: Largest shift along each axis, as a share of the side.
        stain: Standard deviation of the logarithm of a factor on the optical density of all channels: more or less dye.
            The empty field keeps its colour.
        brightness: Largest relative change of the brightness.
        blur_px: Largest standard deviation of a Gaussian blur, in pixels of the input.
        jpeg_quality: Lowest quality of a JPEG compression.
        degraded_share: Share of images that are blurred, and share of images that are compressed.
        shade: Standard deviation of the logarithm of a factor on the optical density of each channel: another shade.
        contrast: Standard deviation of the logarithm of an exponent of the optical densities: how much nuclei stand out
            from red cells.
        mixing: Standard deviation of what each channel sees of each other's optical density: another camera's filters.
        white: Standard deviation of the logarithm of a factor on the empty field's colour, of each channel and of all.
        sharpened_share: Share of the images that are sharpened if they are not blurred, as a camera's software does.
    """

    rotation_deg: float = 180.0
    zoom: float = 0.15
    shift: float = 0.03
    stain: float = 0.15
    brightness: float = 0.08
    blur_px: float = 1.2
    jpeg_quality: int = 40
    degraded_share: float = 0.15
    shade: float = 0.075
    contrast: float = 0.0
    mixing: float = 0.0
    white: float = 0.0
    sharpened_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """Staged fine-tuning: first the head alone, then the head together with the layers above the cut.

    Attributes:
        cut_layer: The last layer that stays frozen; with `pixels` none does.
        transforms: How many of the eight flips and quarter turns of each training image are used, 1 = the image as it
            is. A cell on a smear has no up or down, so all eight are equally likely.
        dropout: Share of features dropped before the last layer during training.
        batch_cells: Images per training step.
        head_epochs: Maximum epochs of the first stage.
        head_learning_rate: AdamW's learning rate in the first stage, falling to zero along a cosine.
        deep_epochs: Maximum epochs of the second stage.
        deep_learning_rate: AdamW's learning rate in the second stage, falling in the same way.
        weight_decay: AdamW's weight decay in both stages.
        patience: Epochs without a better validation loss after which a stage ends.
        augmentation: If set, the second stage starts from pixels, and every epoch uses each image once, with new random
            changes. If not, it starts from cached maps with only the `transforms`, which is about ten times cheaper.
        warm_up: Share of the second stage during which the learning rate rises to its full value; at least 20 steps.
        label_smoothing: Probability that the second stage's targets distribute evenly over all classes.
        average_momentum: Momentum of the running mean of the second stage's weights, which is what the model keeps; 0
            keeps the weights themselves.
        precision: Keras' dtype policy of the second stage on a GPU and on a processor that has it, else float32; the
            bundle's model is always float32.
        outlier_share: Share of the second stage's images that are changed into images of no class (`outliers`), which
            the model learns to tell from cells; only with `augmentation`.
        mild_share: Share of the second stage's images that have only the changes of `Augmentation()`, which a cell of
            the training's own laboratory may have: the larger ones blur what sets neighbouring classes apart.
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
    outlier_share: float = 0.0
    mild_share: float = 0.0


@dataclass(frozen=True, slots=True)
class SvmSearch:
    """What cross-validation chooses from.

    Attributes:
        kernels: `rbf`; bundles of earlier releases may name others.
        gammas: Gammas of the kernel to try, in units of 1 / (number of features x their mean variance).
        costs: Values of C to try: what the squares of errors weigh beside those of the coefficients.
        folds: Stratified folds.
        max_images: Maximum images of the search; the chosen SVM is fitted on all images.
        max_components: Maximum principal components that the features are reduced to; None keeps the features. The
            components make the SVM six times smaller and no less accurate.
        landmarks: Maximum rows that stand for all the others.
        augmentation: Random changes of the copies.
        copies: How many changed copies of each training image the SVM is fitted on, beside the image as it is.
        weight_as_is: What an image as it is weighs beside a changed copy.
        outlier_copies: As many images of no class (`outliers`) as this share of the training images.
    """

    kernels: tuple[str, ...] = ("rbf",)
    gammas: tuple[float, ...] = (0.1, 0.25, 1.0)
    costs: tuple[float, ...] = (1.0, 10.0, 100.0)
    folds: int = 4
    max_images: int = 2_000
    max_components: int | None = None
    landmarks: int = 2_000
    augmentation: Augmentation | None = None
    copies: int = 0
    weight_as_is: float = 1.0
    outlier_copies: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that defines a training apart from images, base weights and seed.

    Attributes:
        side_px: Height and width that the image is resized to.
        feature_layers: Layers of the base network whose averaged maps, concatenated, are the features.
        tuning: Staged fine-tuning; exactly one of `tuning` and `svm` is set.
        svm: Search for the SVM on frozen features.
        crop_px: Height and width of the central part that the network sees, None for the whole image. The analyser
            puts the cell in the middle; its neighbours are farther out.
        pooled_parts: Shares of a map's height and width, around its middle, that are averaged; each share gives
            features of its own.
        validation_fraction: Share of each class kept for early stopping, calibration and thresholds.
        embedding_layers: Layers below the cut whose maps, averaged over half of their height and width, are the input
            of a fine-tuned variant's embedding. If empty, and for an SVM, the features are the input. Tuned layers have
            learnt to ignore stain and blur, and therefore also much that is not a cell. On training images, the tuned
            layers of InceptionV3 found 55 % of wrongly stained and 28 % of hardly stained cells, and `mixed2` found
            94 % and 95 %. Of the cells of classes left out of the training, `mixed2` finds 48 %
            (benchmarks/accuracy/ABLATIONS.md).
        embedding_dims: Maximum dimensions of the embedding.
        evidence_share: Weight of the scores in the novelty against that of the distance (`training.novelty`).
        novelty_flag_rate: Maximum share of validation cells, all of known classes, above the novelty threshold.
        target_risk: Intended share of errors among the calls at or above the confidence threshold.
        min_coverage: Share of validation cells that stay above the confidence threshold whatever the risk, as long as
            they are above `min_confidence`.
        min_confidence: Lowest confidence threshold, however good the model: a cell that more likely belongs to another
            class is not called.
        standardises_colour: Whether the network sees every field with colours in the range of the training images
            (`training.colour`).
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
    evidence_share: float = 0.0
    novelty_flag_rate: float = 0.03
    target_risk: float = 0.02
    min_coverage: float = 0.9
    min_confidence: float = 0.5
    standardises_colour: bool = False

    @property
    def n_outputs(self) -> int:
        """Scores of the model: one for each cell class, and one for images of no class if it learns these."""
        knows_outliers = self.tuning.outlier_share > 0 if self.tuning else self.svm and self.svm.outlier_copies > 0
        return len(CELL_CLASSES) + bool(knows_outliers)

    @property
    def warm_start_parts(self) -> tuple[object, ...]:
        """What has to be the same in the recipe of the model that a warm start begins with.

        A fine-tuned network that has seen other colours has learnt cells all the same, and a head with other scores is
        made anew. An SVM keeps features of earlier images, which are of no use beside those of images in other colours.
        """
        parts = (self.side_px, self.crop_px, self.feature_layers, self.pooled_parts)
        return parts if self.tuning else (*parts, self.standardises_colour, self.n_outputs)

    def __post_init__(self) -> None:
        if (self.tuning is None) == (self.svm is None):
            raise ConfigurationError(
                "A recipe either fine-tunes or fits an SVM. Expected exactly one of tuning and svm."
            )
        if self.embedding_layers and (self.tuning is None or set(self.embedding_layers) & set(self.feature_layers)):
            raise ConfigurationError(
                "Only a fine-tuned variant has embedding_layers, and none of them may be one of its feature_layers. "
                f"Received: {', '.join(self.embedding_layers)}, with features of {', '.join(self.feature_layers)}."
            )


OTHER_LABORATORIES: Final = Augmentation(
    zoom=0.25,
    shift=0.04,
    stain=0.25,
    blur_px=2.5,
    jpeg_quality=25,
    degraded_share=0.4,
    shade=0.35,
    contrast=0.2,
    mixing=0.06,
    white=0.12,
    sharpened_share=0.2,
)
"""Changes as large as those between laboratories, chosen by measurement (ABLATIONS.md, "Other laboratories")."""

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
TUNING_FOR_OTHERS: Final = replace(_FROM_PIXELS, augmentation=OTHER_LABORATORIES, outlier_share=0.2, mild_share=0.5)
"""How a network is fine-tuned that other laboratories use, too."""

_SVM_SEARCH: Final = SvmSearch(gammas=(0.5, 0.75, 1.0), costs=(10.0, 30.0), max_components=512)
SVM_FOR_OTHERS: Final = SvmSearch(
    gammas=(0.3,),
    costs=(10.0, 30.0),
    max_components=352,
    augmentation=OTHER_LABORATORIES,
    copies=4,
    weight_as_is=4.0,
    outlier_copies=0.2,
)
"""How an SVM is fitted that other laboratories use, too."""

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
        tuning=TUNING_FOR_OTHERS,
        validation_fraction=0.1,
        embedding_layers=("mixed2",),
        standardises_colour=True,
    ),
    "inception_v3_svm": Recipe(
        300,
        ("mixed0", "mixed1", "mixed2", "mixed3", "mixed4", "mixed5"),
        crop_px=192,
        pooled_parts=(0.5,),
        svm=SVM_FOR_OTHERS,
        validation_fraction=0.1,
        standardises_colour=True,
        evidence_share=1.0,
    ),
}
"""Recipe of each variant.

The two variants of a base network see the same pixels and do not change its lowest layers, so one run computes these
layers only once: blocks 1 to 3 of VGG-16, and InceptionV3 up to mixed2.
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
