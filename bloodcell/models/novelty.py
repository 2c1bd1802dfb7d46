"""How unlike the training cells a cell is: its Mahalanobis distance to the nearest class.

The training donors were healthy, so a blast or a smudge has no class of its own; a distance says what a softmax cannot.
Source: Lee et al. 2018, A Simple Unified Framework for Detecting Out-of-Distribution Samples, arXiv:1807.03888;
Ledoit and Wolf 2004, Journal of Multivariate Analysis 88:365 (the covariance estimate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Embedding:
    """A linear map of features into a space where Euclidean distance is Mahalanobis distance, and its class means.

    Attributes:
        kernel: float32 (n_features, n_dims).
        bias: float32 (n_dims,).
        means: float32 (n_classes, n_dims), one mean a class.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    means: NDArray[np.float32]

    def embed(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns the embedding float32 (n, n_dims) of features (n, n_features)."""
        return np.asarray(features, np.float32) @ self.kernel + self.bias

    def novelty(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns the distance (n,) of each row to the nearest class mean."""
        embedded = self.embed(features)
        distances = np.linalg.norm(embedded[:, None, :] - self.means[None], axis=2)
        return np.asarray(distances.min(axis=1), np.float32)


def fit_embedding(features: NDArray[np.floating], labels: NDArray[np.integer], n_dims: int) -> Embedding:
    """Returns the embedding fitted on training features: scaled, reduced by PCA, whitened within classes.

    Args:
        features: Of training cells, (n, n_features).
        labels: Class number of each.
        n_dims: Dimensions at most; fewer where there are fewer features or cells.
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
    means = np.stack([reduced[labels == each].mean(axis=0) for each in range(int(labels.max()) + 1)])
    covariance = LedoitWolf(assume_centered=True).fit(reduced - means[labels]).covariance_
    # With covariance = L L', x' covariance^-1 x is the squared length of inverse(L) x.
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
    kernel = (directions.components_.T @ whitening) / scale[:, None]
    return Embedding(
        kernel.astype(np.float32), (-centre @ kernel).astype(np.float32), (means @ whitening).astype(np.float32)
    )


def novelty_threshold(novelty: NDArray[np.floating], flag_rate: float) -> float:
    """Returns the novelty above which a cell counts as unlike the training cells.

    Args:
        novelty: Of validation cells, all of known classes.
        flag_rate: At most this share of them lies above the threshold.
    """
    return float(np.quantile(novelty, 1.0 - flag_rate, method="higher"))
