"""The support vector machine on a network's features, and its decision as plain Keras layers."""

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
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, LinearSVC

    from bloodcell.registry.recipes import SvmSearch


@dataclass(frozen=True, slots=True)
class SvmChoice:
    """What the search chose, in the units of `SvmSearch`.

    Attributes:
        kernel: `linear` or `rbf`.
        gamma: Gamma of the rbf kernel; 1 for the linear kernel.
        cost: C.
        macro_sensitivity: Mean sensitivity over the classes in cross-validation; None if there were too few images.
    """

    kernel: str
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
    """Returns the kernel, gamma and C with the best mean sensitivity over the classes in stratified cross-validation.

    Accuracy would favour neutrophils, which are most of a laboratory's labels, while basophils are 2 %. The kernel
    matrices of a fold are computed once for all values of C, so the search takes seconds instead of minutes.

    Args:
        features: float (n, n_features).
        labels: int (n,), class numbers.
        options: What to choose from.
        seed: Seed of the folds.
        on_fold: Called with the number of folds done and of all folds.
    """
    from sklearn.model_selection import StratifiedKFold, train_test_split
    from sklearn.svm import SVC

    kernels = [
        (kernel, gamma) for kernel in options.kernels for gamma in (options.gammas if kernel == "rbf" else (1.0,))
    ]
    if len(labels) > options.max_images:
        features, _, labels, _ = train_test_split(
            features, labels, train_size=options.max_images, stratify=labels, random_state=seed
        )
    n_folds = min(options.folds, int(np.bincount(labels).min()))
    if n_folds < 2:
        return SvmChoice(*kernels[0], options.costs[0])
    counts = np.bincount(labels)
    n_right = {(*kernel, cost): np.zeros(len(counts)) for kernel in kernels for cost in options.costs}
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for n_done, (fitted, held) in enumerate(folds.split(features, labels), start=1):
        axes = _axes(features[fitted], options.max_components)
        rows, others = axes.transform(features[fitted]), axes.transform(features[held])
        scale = _scale(rows)
        for kernel, gamma in kernels:
            among, across = _gram(kernel, gamma * scale, rows, rows), _gram(kernel, gamma * scale, others, rows)
            for cost in options.costs:
                machine = _one_against_rest(SVC(kernel="precomputed", C=cost), among, labels[fitted])
                right = labels[held][machine.predict(across) == labels[held]]
                n_right[kernel, gamma, cost] += np.bincount(right, minlength=len(counts))
        on_fold(n_done, n_folds)
    sensitivity = {choice: macro_sensitivity(right, counts) for choice, right in n_right.items()}
    best = max(sensitivity, key=lambda choice: sensitivity[choice])
    return SvmChoice(*best, sensitivity[best])


def fit(
    features: NDArray[np.floating], labels: NDArray[np.integer], choice: SvmChoice, max_components: int | None = None
) -> Pipeline:
    """Returns the fitted pipeline: centring or PCA, then one SVM per class against the rest; its decision is (n, k).

    Components and support vectors are rounded to float16's values, which makes the SVM a quarter as large and no less
    accurate.

    Features are centred but not scaled individually: on 1,200 real cells that was 0.4 to 0.7 points better in five-fold
    cross-validation, because it does not amplify channels that are almost always zero. As in fine-tuning, all classes
    have the same weight, whatever their number of images.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.svm import SVC

    axes = _axes(features, max_components)
    rows = rounded(axes.transform(np.asarray(features, np.float64)))
    scale = _scale(rows)
    if choice.kernel == "linear":
        machine = _linear_machine(choice.cost * scale, scale)
    else:
        machine = SVC(kernel="rbf", gamma=choice.gamma * scale, C=choice.cost, cache_size=500)
    return Pipeline([("axes", axes), ("svm", _one_against_rest(machine, rows, labels))])


def decision_layers(pipeline: Pipeline, features: Any) -> Any:
    """Returns a tensor (n, k) that equals `pipeline.decision_function` of the tensor `features` to within 1e-4.

    With the linear kernel it is one matrix product, which includes the centring; with the rbf kernel it is the kernel
    expansion over all support vectors. The last steps are float64: on 3,200 real cells the dual coefficients of one SVM
    add up to 2,800, and a decision in float32 was up to 2e-4 off. (JAX uses float32 unless its x64 mode is on.)
    """
    machine = pipeline.named_steps["svm"].estimators_[0]
    return _linear(pipeline, features) if hasattr(machine, "coef_") else _radial(pipeline, features)


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


def _linear_machine(cost: float, scale: float) -> LinearSVC:
    """Returns an SVM that is fitted on 50,000 rows in a minute; one with a kernel would take hours."""
    from sklearn.svm import LinearSVC

    # liblinear also regularises the intercept, unless the constant that it multiplies is large beside the rows
    return LinearSVC(C=cost, dual=False, intercept_scaling=3 / np.sqrt(scale), max_iter=1_000)


def _one_against_rest(
    machine: SVC | LinearSVC, rows: NDArray[np.floating], labels: NDArray[np.integer]
) -> OneVsRestClassifier:
    from sklearn import config_context
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.utils.class_weight import compute_sample_weight

    with config_context(enable_metadata_routing=True):
        machines = OneVsRestClassifier(machine.set_fit_request(sample_weight=True))
        machines.fit(rows, labels, sample_weight=compute_sample_weight("balanced", labels))
    return machines


def _scale(features: NDArray[np.floating]) -> float:
    """Returns the factor that makes the mean of the linear kernel's diagonal 1."""
    return 1.0 / float(features.shape[1] * np.var(features, axis=0, dtype=np.float64).mean())


def _gram(kernel: str, gamma: float, rows: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    from sklearn.metrics.pairwise import linear_kernel, rbf_kernel

    if kernel == "linear":
        return np.asarray(gamma * linear_kernel(rows, others))
    return np.asarray(rbf_kernel(rows, others, gamma=gamma))


def _linear(pipeline: Pipeline, features: Any) -> Any:
    axes, machines = pipeline.named_steps["axes"], pipeline.named_steps["svm"].estimators_
    coefficients = np.concatenate([machine.coef_ for machine in machines])
    if (components := getattr(axes, "components_", None)) is not None:
        coefficients = coefficients @ components
    intercepts = np.concatenate([machine.intercept_ for machine in machines])
    return dense(coefficients.T, intercepts - coefficients @ axes.mean_, "decision", "float64")(features)


def _radial(pipeline: Pipeline, features: Any) -> Any:
    import keras

    machines = pipeline.named_steps["svm"].estimators_
    used = np.unique(np.concatenate([machine.support_ for machine in machines]))
    vectors = np.zeros((len(used), machines[0].support_vectors_.shape[1]))
    duals = np.zeros((len(used), len(machines)))
    for number, machine in enumerate(machines):
        places = np.searchsorted(used, machine.support_)
        vectors[places] = machine.support_vectors_
        duals[places, number] = machine.dual_coef_[0]
    intercepts = np.concatenate([machine.intercept_ for machine in machines])
    rows = _on_axes(pipeline.named_steps["axes"], features)
    squares = keras.ops.sum(keras.ops.square(rows), axis=-1, keepdims=True)
    products = dense(-2.0 * vectors.T, (vectors**2).sum(axis=1), "support")(rows)
    distances = keras.ops.maximum(keras.ops.add(squares, products), 0.0)
    # the dual coefficients of an SVM sum to zero, so exp - 1 gives the same decision as exp, and float32 does not lose
    # the small differences between kernel values near 1
    exponents = keras.ops.multiply(keras.ops.cast(distances, "float64"), -machines[0].gamma)
    return dense(duals, intercepts, "decision", "float64")(keras.ops.expm1(exponents))


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
