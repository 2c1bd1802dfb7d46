"""A bundle's model file is half as large and holds exactly the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import MODEL, Bundle
from bloodcell.registry.compact import write_compact
from bloodcell.training.base_networks import build_base, round_kernels


@pytest.mark.slow
def test_rounded_kernels_lose_nothing_and_more_than_half_the_bytes_are_saved(tmp_path: Path) -> None:
    import keras

    network = build_base("vgg16", 32)
    round_kernels(network)
    network.layers[-2].bias.assign(np.random.default_rng(0).normal(size=512).astype(np.float32))
    network.save(tmp_path / "saved.keras")
    write_compact(tmp_path / "saved.keras", tmp_path / "compact.keras")

    loaded = keras.saving.load_model(tmp_path / "compact.keras", compile=False, safe_mode=True)
    for kept, weights in zip(loaded.get_weights(), network.get_weights(), strict=True):
        assert kept.dtype == np.float32
        np.testing.assert_array_equal(kept, weights)
    assert (tmp_path / "compact.keras").stat().st_size < 0.5 * (tmp_path / "saved.keras").stat().st_size


def test_bundles_are_kept_compact(tuned_bundle: Bundle) -> None:
    n_weights = load_model(tuned_bundle).count_params()
    assert (tuned_bundle.folder / MODEL).stat().st_size < 2.2 * n_weights + 200_000
