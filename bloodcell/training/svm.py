"""The support vector machine on a network's features, and its decision as plain Keras layers.

It is a least-squares SVM with an RBF kernel of landmarks: some of the training images stand for all of them, and each
class is fitted against the rest. It is fitted on 50,000 rows in half a minute, where an SVM with support vectors takes
hours. On other laboratories' images it was more often right than a linear SVM (benchmarks/accuracy/ABLATIONS.md).
Source: Suykens and Vandewalle 1999, Neural Processing Letters 9:293 (least squares); Williams and Seeger 2001, NIPS
13:682 (landmarks, the Nystroem method).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.cells.metrics import macro_sensitivity
from bloodcell.registry.compact import rounded

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras
    from numpy.typing import NDArray
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from bloodcell.registry.recipes import SvmSearch


@dataclass(frozen=True, slots=True)
class SvmChoice:
    """What the search chose, in the units of `SvmSearch`.

    Attributes:
        gamma: Gamma of the kernel.
        cost: C.
        macro_sensitivity: Mean sensitivity over the classes in cross-validation; None if there were too few images.
    """

    gamma: float
    cost: float
    macro_sensitivity: float | None = None


def search(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    options: SvmSearch,
    seed: int,
    on_fold: Callable[[int, int], None],
) -> SvmChoice:
    """Returns the gamma and C with the best mean sensitivity over the classes in stratified cross-validation.

    Accuracy would favour neutrophils, which are most of a laboratory's labels, while basophils are 2 %.

    Args:
        features: float (n, n_features).
        labels: int (n,), class numbers.
        options: What to choose from.
        seed: Seed of the folds.
        on_fold: Called with the number of folds done and of all folds.
    """
    from sklearn.model_selection import StratifiedKFold, train_test_split
    from sklearn.pipeline import Pipeline

    if len(labels) > options.max_images:
        features, _, labels, _ = train_test_split(
            features, labels, train_size=options.max_images, stratify=labels, random_state=seed
        )
    choices = [SvmChoice(gamma, cost) for gamma in options.gammas for cost in options.costs]
    n_folds = min(options.folds, int(np.bincount(labels).min()))
    if n_folds < 2 or len(choices) == 1:
        return choices[0]
    counts = np.bincount(labels)
    n_right = {choice: np.zeros(len(counts)) for choice in choices}
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for n_done, (fitted, held) in enumerate(folds.split(features, labels), start=1):
        axes = _axes(features[fitted], options.max_components)
        rows, others = _on(axes, features[fitted]), axes.transform(features[held])
        for choice in choices:
            machine = Pipeline(_fitted(rows, labels[fitted], choice, options))
            right = labels[held][machine.predict(others) == labels[held]]
            n_right[choice] += np.bincount(right, minlength=len(counts))
        on_fold(n_done, n_folds)
    sensitivity = {choice: macro_sensitivity(right, counts) for choice, right in n_right.items()}
    best = max(sensitivity, key=lambda choice: sensitivity[choice])
    return SvmChoice(best.gamma, best.cost, sensitivity[best])


def fit(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    choice: SvmChoice,
    options: SvmSearch,
    weights: NDArray[np.floating] | None = None,
) -> Pipeline:
    """Returns the fitted pipeline of axes, landmarks and least squares; its decision is (n, k).

    Components and landmarks are rounded to float16's values, which makes the SVM a quarter as large and no less
    accurate.

    Features are centred but not scaled individually: on 1,200 real cells that was 0.4 to 0.7 points better in five-fold
    cross-validation, because it does not amplify channels that are almost always zero. As in fine-tuning, all classes
    have the same weight, whatever their number of images.

    Args:
        features: float (n, n_features).
        labels: int (n,), class numbers.
        choice: Gamma and C.
        options: Components and landmarks.
        weights: float (n,), of the rows, beside that of their class; None: all weigh the same.
    """
    from sklearn.pipeline import Pipeline

    axes = _axes(features, options.max_components)
    return Pipeline([("axes", axes), *_fitted(_on(axes, features), labels, choice, options, weights)])


def _on(axes: PCA | StandardScaler, features: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns features on the axes, rounded to float16's values, since landmarks are among these rows."""
    return rounded(axes.transform(np.asarray(features, np.float64)))


def _fitted(
    rows: NDArray[np.floating],
    labels: NDArray[np.integer],
    choice: SvmChoice,
    options: SvmSearch,
    weights: NDArray[np.floating] | None = None,
) -> list[tuple[str, Any]]:
    """Returns the steps after the axes: landmarks, and least squares on them."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import RidgeClassifier

    landmarks = Nystroem(
        gamma=choice.gamma * _scale(rows), n_components=min(options.landmarks, len(rows)), random_state=0
    ).fit(rows)
    # all classes weigh the same; an intercept for each is not regularised
    machine = RidgeClassifier(alpha=1 / choice.cost, class_weight="balanced")
    machine.fit(landmarks.transform(rows), labels, sample_weight=weights)
    return [("landmarks", landmarks), ("svm", machine)]


def decision_layers(pipeline: Pipeline, features: Any) -> Any:
    """Returns a tensor (n, k) that equals `pipeline.decision_function` of the tensor `features` to within 1e-4.

    The last steps are float64, because what the landmarks add up to is the small rest of large numbers. (JAX uses
    float32 unless its x64 mode is on.)
    """
    import keras

    landmarks, machine = pipeline.named_steps["landmarks"], pipeline.named_steps["svm"]
    weights = landmarks.normalization_.T @ np.atleast_2d(machine.coef_).T
    rows = keras.ops.cast(_on_axes(pipeline.named_steps["axes"], features), "float64")
    points = landmarks.components_.astype(np.float64)
    squares = keras.ops.sum(keras.ops.square(rows), axis=-1, keepdims=True)
    products = dense(-2.0 * points.T, np.square(points).sum(axis=1), "landmarks", "float64")(rows)
    distances = keras.ops.maximum(keras.ops.add(squares, products), 0.0)
    kernel = keras.ops.exp(keras.ops.multiply(distances, -landmarks.gamma))
    return dense(weights, machine.intercept_, "decision", "float64")(kernel)


def dense(
    kernel: NDArray[np.floating], bias: NDArray[np.floating], name: str, dtype: str = "float32"
) -> keras.layers.Dense:
    """Returns a built dense layer that holds the given matrix (n_in, n_out) and bias (n_out,)."""
    import keras

    layer = keras.layers.Dense(kernel.shape[1], name=name, trainable=False, dtype=dtype)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel.astype(dtype), bias.astype(dtype)])
    return layer


def _axes(features: NDArray[np.floating], max_components: int | None) -> PCA | StandardScaler:
    """Returns a transformer that centres features, or projects them onto `max_components` principal components."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    rows = np.asarray(features, np.float64)
    if max_components and max_components < min(rows.shape):
        axes = PCA(max_components, svd_solver="randomized", random_state=0).fit(rows)
        axes.components_ = rounded(axes.components_)
        return axes
    return StandardScaler(with_std=False).fit(rows)


def _scale(features: NDArray[np.floating]) -> float:
    """Returns the factor that makes the mean of the linear kernel's diagonal 1."""
    return 1.0 / float(features.shape[1] * np.var(features, axis=0, dtype=np.float64).mean())


def _on_axes(axes: PCA | StandardScaler, features: Any) -> Any:
    import keras

    if (components := getattr(axes, "components_", None)) is not None:
        return dense(components.T, -components @ axes.mean_, "principal_axes")(features)
    # normalisation with a variance of 1: the only built-in layer that subtracts a stored vector
    centring = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=0.0, trainable=False, name="centred_features"
    )
    centring.build((None, features.shape[-1]))
    centring.set_weights([axes.mean_.astype(np.float32), np.ones(features.shape[-1], np.float32)])
    return centring(features)
