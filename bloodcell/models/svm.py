"""The support vector machine on a network's features, and the same decision as plain Keras layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from bloodcell.models.recipes import SvmSearch


@dataclass(frozen=True, slots=True)
class SvmChoice:
    """What the search chose, and its accuracy in cross-validation (None where the images are too few to fold)."""

    kernel: str
    cost: float
    accuracy: float | None


def search(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    options: SvmSearch,
    seed: int,
    on_fold: Callable[[int, int], None],
) -> SvmChoice:
    """Returns the kernel and C with the best accuracy in stratified cross-validation.

    Every fold's kernel matrices are computed once for all values of C: the search costs seconds, not minutes.
    """
    from sklearn.model_selection import StratifiedKFold, train_test_split
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if len(labels) > options.max_images:
        features, _, labels, _ = train_test_split(
            features, labels, train_size=options.max_images, stratify=labels, random_state=seed
        )
    n_folds = min(options.folds, int(np.bincount(labels).min()))
    if n_folds < 2:
        return SvmChoice(options.kernels[0], options.costs[0], None)
    n_right: dict[tuple[str, float], int] = dict.fromkeys(
        ((kernel, cost) for kernel in options.kernels for cost in options.costs), 0
    )
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for n_done, (fitted, held) in enumerate(folds.split(features, labels), start=1):
        scaler = StandardScaler().fit(features[fitted])
        rows, others = scaler.transform(features[fitted]), scaler.transform(features[held])
        for kernel in options.kernels:
            among, across = _gram(kernel, rows, rows), _gram(kernel, others, rows)
            for cost in options.costs:
                machine = OneVsRestClassifier(SVC(kernel="precomputed", C=cost)).fit(among, labels[fitted])
                n_right[kernel, cost] += int((machine.predict(across) == labels[held]).sum())
        on_fold(n_done, n_folds)
    kernel, cost = max(n_right, key=lambda each: n_right[each])
    return SvmChoice(kernel, cost, n_right[kernel, cost] / len(labels))


def fit(features: NDArray[np.floating], labels: NDArray[np.integer], choice: SvmChoice) -> Pipeline:
    """Returns the fitted pipeline: scaling, then one SVM a class against the rest; its decision is (n, 8)."""
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = SVC(kernel=choice.kernel, C=choice.cost, gamma=1.0 / features.shape[1], cache_size=500)
    pipeline = Pipeline([("scale", StandardScaler()), ("svm", OneVsRestClassifier(machine))])
    return pipeline.fit(np.asarray(features, np.float64), labels)


def decision_layers(pipeline: Pipeline, features: Any) -> Any:
    """Returns a tensor (n, 8) that equals `pipeline.decision_function` of the tensor `features`.

    Linear: one matrix product, the scaling folded into it. Radial: the kernel expansion over all support vectors.
    """
    machine = pipeline.named_steps["svm"].estimators_[0]
    return _linear(pipeline, features) if machine.kernel == "linear" else _radial(pipeline, features)


def dense(kernel: NDArray[np.floating], bias: NDArray[np.floating], name: str) -> keras.layers.Dense:
    """Returns a built dense layer that holds the given matrix (n_in, n_out) and bias (n_out,)."""
    import keras

    layer = keras.layers.Dense(kernel.shape[1], name=name, trainable=False)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return layer


def _gram(kernel: str, rows: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    from sklearn.metrics.pairwise import linear_kernel, rbf_kernel

    if kernel == "linear":
        return np.asarray(linear_kernel(rows, others))
    return np.asarray(rbf_kernel(rows, others, gamma=1.0 / rows.shape[1]))


def _linear(pipeline: Pipeline, features: Any) -> Any:
    scaler, machines = pipeline.named_steps["scale"], pipeline.named_steps["svm"].estimators_
    coefficients = np.concatenate([machine.coef_ for machine in machines]) / scaler.scale_
    intercepts = np.concatenate([machine.intercept_ for machine in machines])
    return dense(coefficients.T, intercepts - coefficients @ scaler.mean_, "decision")(features)


def _radial(pipeline: Pipeline, features: Any) -> Any:
    import keras

    scaler, machines = pipeline.named_steps["scale"], pipeline.named_steps["svm"].estimators_
    used = np.unique(np.concatenate([machine.support_ for machine in machines]))
    vectors = np.zeros((len(used), features.shape[-1]))
    duals = np.zeros((len(used), len(machines)))
    for number, machine in enumerate(machines):
        places = np.searchsorted(used, machine.support_)
        vectors[places] = machine.support_vectors_
        duals[places, number] = machine.dual_coef_[0]
    intercepts = np.concatenate([machine.intercept_ for machine in machines])

    scaling = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=0.0, trainable=False, name="scaled_features"
    )
    scaling.build((None, features.shape[-1]))
    scaling.set_weights([scaler.mean_.astype(np.float32), (scaler.scale_**2).astype(np.float32)])
    scaled = scaling(features)
    squares = keras.ops.sum(keras.ops.square(scaled), axis=-1, keepdims=True)
    products = dense(-2.0 * vectors.T, (vectors**2).sum(axis=1), "support")(scaled)
    distances = keras.ops.maximum(keras.ops.add(squares, products), 0.0)
    kernel_values = keras.ops.exp(keras.ops.multiply(distances, -machines[0].gamma))
    return dense(duals, intercepts, "decision")(kernel_values)
