"""The bootstrap over slide buckets, from which the intervals of drift come.

Source: Field and Welsh, Bootstrapping clustered data, Journal of the Royal Statistical Society B 69 (2007) 369-390.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK_DRAWS: Final = 2_000_000
"""Buckets drawn at once, over all draws of a chunk: 16 MB of weights, whatever the number of buckets."""


def drawn_sums(counts: NDArray[np.float64], *, n_replicates: int, seed: int) -> NDArray[np.float64]:
    """Returns float64 (n_replicates, n_columns): sums of `counts` over slide buckets drawn with replacement.

    Args:
        counts: float64 (n_buckets, n_columns), at least one bucket.
        n_replicates: Number of draws; each draws as many buckets as there are.
        seed: The same seed gives the same draws, whatever the columns.
    """
    n_buckets = len(counts)
    random = np.random.default_rng(seed)
    sums = np.empty((n_replicates, counts.shape[1]))
    step = max(_CHUNK_DRAWS // n_buckets, 1)
    for start in range(0, n_replicates, step):
        n_draws = min(step, n_replicates - start)
        drawn = random.integers(0, n_buckets, (n_draws, n_buckets))
        drawn += n_buckets * np.arange(n_draws)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=n_draws * n_buckets).reshape(n_draws, n_buckets)
        sums[start : start + n_draws] = weights @ counts
    return sums
