"""A linear head that ten labels a class fit: each class is a Gaussian cloud of features, and all have one shape.

The shape (the covariance within classes) comes from the cells that the model learnt from and from the site's. The
middle of a class starts where the model learnt it, moved by what the labelled classes have in common (another stain and
camera move all classes alike), and moves towards the mean of the site's labels the more of them there are. A class
without a label has no middle: where its cells are, nobody knows (`site_head`).
Source: Fisher 1936 and Rao 1948 (linear discriminant analysis); Ledoit and Wolf 2004 (the covariance); the shrunk means
are the posterior means under a Gaussian prior (Efron and Morris 1977).
Compared with logistic regression from the shipped head: benchmarks/accuracy/ABLATIONS.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_DIMS: Final = 64
"""Principal components of the features; 32 are less accurate, 128 are not more so."""

_IMPOSSIBLE: Final = -1e9  # a score that no temperature makes probable

PRIOR_LABELS: Final = 3.0
"""Labels of a class at which the site's mean and the learnt one count alike; 1 and 10 are no better."""


@dataclass(frozen=True, slots=True)
class ClassGaussians:
    """A head: features become the distances to the middles of the classes, and the scores that follow.

    Attributes:
        kernel: float32 (n_features, n_dims), into a space in which every class is round with variance 1.
        bias: float32 (n_dims,).
        middles: float32 (n_classes, n_dims).
        known: bool (n_classes,), whether the class has a label at the site; the middles of the others mean nothing.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    middles: NDArray[np.float32]
    known: NDArray[np.bool_]

    def embed(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns features (n, n_features) in that space: float32 (n, n_dims)."""
        return np.asarray(features @ self.kernel + self.bias, np.float32)

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Returns float64 (n, n_classes): logarithms of the classes' densities, without what they have in common."""
        kernel, bias = self.score_weights
        return np.asarray(self.embed(features).astype(np.float64) @ kernel.astype(np.float64) + bias)

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Returns float64 (n,): the Mahalanobis distance to the nearest class."""
        embedded = self.embed(features).astype(np.float64)
        squares = np.square(embedded[:, None, :] - self.middles[self.known][None]).sum(axis=2)
        return np.asarray(np.sqrt(squares.min(axis=1)))

    @property
    def score_weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kernel (n_dims, n_classes) and bias (n_classes,), by which embedded features become scores."""
        squares = np.square(self.middles.astype(np.float64)).sum(axis=1)
        return self.middles.T, np.where(self.known, -0.5 * squares, _IMPOSSIBLE).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Features of labelled cells.

    Attributes:
        features: float (n, n_features).
        labels: int (n,), class numbers.
    """

    features: NDArray[np.floating]
    labels: NDArray[np.integer]


def fit_class_gaussians(
    learnt: Labelled, site: Labelled, unlabelled: NDArray[np.floating], n_classes: int, n_dims: int = N_DIMS
) -> ClassGaussians:
    """Returns the head of a site.

    Args:
        learnt: Cells that the model was trained on, some of each class below 8.
        site: Labelled cells of the site; classes from 8 on are those that only the site knows.
        unlabelled: float (n, n_features), further cells of the site; they help to choose the components.
        n_classes: Classes of the head, at least 8.
        n_dims: Maximum components.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    rows = np.concatenate([learnt.features, site.features, unlabelled]).astype(np.float64)
    axes = PCA(min(n_dims, len(rows) - 1, rows.shape[1]), random_state=0).fit(rows)
    old, new = axes.transform(learnt.features.astype(np.float64)), axes.transform(site.features.astype(np.float64))
    means_learnt = np.stack([old[learnt.labels == each].mean(axis=0) for each in range(_n_learnt(learnt))])
    means = _shrunk_means(means_learnt, new, site.labels, n_classes)
    # both sources count alike, whatever their numbers of cells
    residuals = np.concatenate(
        [
            (old - means_learnt[learnt.labels]) * np.sqrt(0.5 / len(old)),
            (new - _own_means(new, site.labels)[site.labels]) * np.sqrt(0.5 / max(len(new), 1)),
        ]
    )
    residuals *= np.sqrt(len(residuals))
    covariance = LedoitWolf(assume_centered=True).fit(residuals).covariance_
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
    known = np.bincount(site.labels, minlength=n_classes) > 0
    centre = means[known].mean(axis=0)  # a common shift changes no distance, and keeps the numbers small
    kernel = axes.components_.T @ whitening
    bias = -(axes.mean_ @ kernel) - centre @ whitening
    return ClassGaussians(
        kernel.astype(np.float32),
        bias.astype(np.float32),
        ((means - centre) @ whitening).astype(np.float32),
        known,
    )


def _n_learnt(learnt: Labelled) -> int:
    return int(learnt.labels.max()) + 1


def _own_means(rows: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns the mean of each class' rows; of a class without rows, 0."""
    means = np.zeros((int(labels.max(initial=-1)) + 1, rows.shape[1]))
    for each in np.unique(labels):
        means[each] = rows[labels == each].mean(axis=0)
    return means


def _shrunk_means(
    learnt: NDArray[np.float64], rows: NDArray[np.float64], labels: NDArray[np.integer], n_classes: int
) -> NDArray[np.float64]:
    own, counts = _own_means(rows, labels), np.bincount(labels, minlength=n_classes)
    known = [each for each in range(len(learnt)) if counts[each]]
    shift = np.mean([own[each] - learnt[each] for each in known], axis=0) if known else np.zeros(learnt.shape[1])
    means = np.zeros((n_classes, learnt.shape[1]))
    for each in range(n_classes):
        if each >= len(learnt):
            means[each] = own[each]
        elif counts[each]:
            prior = learnt[each] + shift
            means[each] = (PRIOR_LABELS * prior + counts[each] * own[each]) / (PRIOR_LABELS + counts[each])
    return means
