"""Measures how unlike the training cells a cell is: its distance to the nearest class, and how little speaks for any.

The distance is relative to that to all cells.

The training images show neither blasts nor smudge cells, so these have no class; a distance finds them, and a softmax
does not. The squared Mahalanobis distance to the nearest class consists mostly of directions in which every smear
differs from every other. Therefore the distance to all cells together is subtracted, except for a small part, which
finds images without a cell. This was measured by leaving out each of the eight classes in turn, with InceptionV3's
frozen `mixed2`, fitted on two thirds of the training images and evaluated on the rest. The area under the ROC curve is
0.91, and 0.82 with the plain distance. At a threshold that 3 % of the other classes' cells exceed, 48 % of the cells
of the left-out class exceed it, and 34 % with the plain distance (benchmarks/accuracy/ABLATIONS.md).

The scores of an SVM see something else: a cell that no class claims has low scores in all of them. Both together find
69 % of the cells of a left-out class where 5 % of the others are flagged, the distance alone 57 %.
Source: Lee et al. 2018, arXiv:1807.03888 (the distance); Ren et al. 2021, arXiv:2106.09022 (the relative one);
Ledoit and Wolf 2004, Journal of Multivariate Analysis 88:365 (the covariance estimate); Liu et al. 2020,
arXiv:2010.03759 (the evidence, which is their negative energy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.registry.compact import rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray


COMMON_SHARE: Final = 0.05  # of the values from 0.01 to 1, compared in the same way, it has the largest area


@dataclass(frozen=True, slots=True)
class Embedding:
    """A linear map of features into a space in which novelty is a distance, with a point for each class.

    Attributes:
        kernel: float32 (n_features, n_dims).
        bias: float32 (n_dims,).
        points: float32 (n_classes, n_dims), one per class.
        offsets: float32 (n_classes,), 0 or more, added to the squared distance to each point.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    points: NDArray[np.float32]
    offsets: NDArray[np.float32]

    def embed(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns the embedding float32 (n, n_dims) of features (n, n_features)."""
        return np.asarray(features, np.float32) @ self.kernel + self.bias

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns the distance (n,) of each row of features to the nearest class, 0 or more."""
        embedded = self.embed(features)
        squares = np.square(embedded[:, None, :] - self.points[None]).sum(axis=2) + self.offsets
        return np.asarray(np.sqrt(squares.min(axis=1)), np.float32)


@dataclass(frozen=True, slots=True)
class Novelty:
    """How unlike the training cells a cell is.

    Attributes:
        embedding: Gives the distance.
        temperature: Divisor of the scores.
        evidence_weight: What a lack of evidence adds to the distance; 0: the distance is all.
        usual_evidence: Evidence at which nothing is added.
    """

    embedding: Embedding
    temperature: float = 1.0
    evidence_weight: float = 0.0
    usual_evidence: float = 0.0

    def of(self, features: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns the novelty (n,) of cells, 0 or more.

        Args:
            features: float (n, n_features).
            scores: float (n, k), k at least 8.
        """
        lack = self.usual_evidence - evidence(scores, self.temperature)
        return np.asarray(np.maximum(self.embedding.distance(features) + self.evidence_weight * lack, 0), np.float32)


def evidence(scores: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Returns how much speaks for any of the eight classes: the logarithm of their summed powers, (n,)."""
    scaled = np.asarray(scores[:, : len(CELL_CLASSES)], np.float64) / temperature
    return np.asarray(np.logaddexp.reduce(scaled, axis=1))


def with_evidence(
    embedding: Embedding,
    features: NDArray[np.floating],
    scores: NDArray[np.floating],
    temperature: float,
    share: float,
) -> Novelty:
    """Returns a novelty in which distance and lack of evidence spread as widely over validation cells, times `share`.

    Args:
        embedding: Gives the distance.
        features: float (n, n_features), of validation cells.
        scores: float (n, k), of the same.
        temperature: Divisor of the scores.
        share: Weight of the evidence against that of the distance; 0: the distance is all.
    """
    of_cells = evidence(scores, temperature)
    spread = _tail(-of_cells)
    weight = share * _tail(embedding.distance(features)) / spread if spread > 0 else 0.0
    return Novelty(embedding, temperature, weight, float(np.median(of_cells)))


def _tail(values: NDArray[np.floating]) -> float:
    """Returns how far the upper tail reaches beyond the median."""
    return float(np.quantile(values, 0.9) - np.median(values))


def fit_embedding(
    features: NDArray[np.floating], labels: NDArray[np.integer], n_dims: int, common_share: float = COMMON_SHARE
) -> Embedding:
    """Returns the embedding fitted on training features: scaled, reduced by PCA, whitened within classes, weighted.

    Args:
        features: float (n, n_features), of training cells.
        labels: int (n,), class numbers.
        n_dims: Maximum dimensions; fewer if there are fewer features or cells.
        common_share: Part of the distance to all cells that is not subtracted, above 0; at 1 nothing is subtracted.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    rows = np.asarray(features, np.float64)
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale < 1e-6] = 1.0
    scaled = (rows - centre) / scale
    n_dims = min(n_dims, rows.shape[1], rows.shape[0] - 1)
    directions = PCA(n_dims, svd_solver="full" if n_dims > 0.8 * min(rows.shape) else "randomized", random_state=0)
    reduced = directions.fit_transform(scaled)
    present, classes = np.unique(labels, return_inverse=True)
    means = np.stack([reduced[labels == each].mean(axis=0) for each in present])
    covariance = LedoitWolf(assume_centered=True).fit(reduced - means[classes]).covariance_
    # with covariance = L L', x' covariance^-1 x is the squared length of inverse(L) x
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
    middle = means.mean(axis=0)
    turn, weights, points, offsets = _weighted((means - middle) @ whitening, common_share)
    into = whitening @ turn * weights
    kernel = rounded((directions.components_.T @ into) / scale[:, None])
    bias = -centre @ kernel - middle @ into
    return Embedding(
        kernel.astype(np.float32), bias.astype(np.float32), points.astype(np.float32), offsets.astype(np.float32)
    )


def _weighted(
    means: NDArray[np.float64], common_share: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns axes, the weight of each axis, and the points and offsets of the classes in that space.

    Let cells z be whitened within classes, m the class means with mean 0, and I + B the covariance of all cells, where
    B is that of the means. Novelty is then min |z - m|^2 - (1 - s) z' (I + B)^-1 z with s = `common_share`. On the axes
    of B, with eigenvalues b, the square is completed in each coordinate: with w = 1 - (1 - s) / (1 + b) it is
    w (z - m / w)^2 - m^2 (1 - w) / w, a weighted distance to another point and an offset for each class. A constant is
    added to all offsets, so that the smallest is 0.
    """
    between, axes = np.linalg.eigh(means.T @ means / len(means))
    weights = 1.0 - (1.0 - common_share) / (1.0 + np.maximum(between, 0.0))
    turned = means @ axes
    offsets = -(turned**2 * (1.0 - weights) / weights).sum(axis=1)
    return axes, np.sqrt(weights), turned / np.sqrt(weights), offsets - offsets.min()


def novelty_threshold(novelty: NDArray[np.floating], flag_rate: float) -> float:
    """Returns the novelty above which a cell counts as unlike the training cells.

    Args:
        novelty: float (n,), of validation cells, all of known classes.
        flag_rate: Maximum share of these cells above the threshold.
    """
    return float(np.quantile(novelty, 1.0 - flag_rate, method="higher"))
