from __future__ import annotations

import keras
import numpy as np
import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.training.base_networks import build_base, feature_map, pooled, pooled_maps


@pytest.mark.slow
@pytest.mark.parametrize("base", ["vgg16", "inception_v3"])
def test_preprocessing_in_the_model_equals_that_of_keras_applications(base: str) -> None:
    side_px = {"vgg16": 32, "inception_v3": 75}[base]
    network = build_base(base, side_px)
    module = getattr(keras.applications, base)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, side_px, side_px, 3), dtype=np.uint8)
    first = next(layer for layer in network.layers if hasattr(layer, "kernel"))
    received = keras.Model(network.inputs, first.input).predict_on_batch(pixels)
    expected = module.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_the_graph_is_flat_and_frozen() -> None:
    network = build_base("vgg16", 32)
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
    assert network.trainable_variables == []
    assert network.inputs[0].dtype == "uint8"


def test_features_are_the_concatenated_averaged_maps() -> None:
    network = build_base("vgg16", 32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    layers = ("block1_pool", "block2_pool")
    maps = keras.Model(network.inputs, [feature_map(network, layer) for layer in layers]).predict_on_batch(pixels)
    features = keras.Model(network.inputs, pooled(network, layers)).predict_on_batch(pixels)
    expected = np.concatenate([each.mean(axis=(1, 2)) for each in maps], axis=1)
    np.testing.assert_allclose(features, expected, rtol=1e-5)


@pytest.mark.parametrize(("part", "rows"), [(1.0, slice(0, 16)), (0.75, slice(2, 14)), (0.5, slice(4, 12))])
def test_a_part_of_a_map_is_its_central_part(part: float, rows: slice) -> None:
    network = build_base("vgg16", 32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    whole = keras.Model(network.inputs, feature_map(network, "block1_pool")).predict_on_batch(pixels)
    (averages,) = pooled_maps(network, ("block1_pool",), (part,)).values()
    received = keras.Model(network.inputs, averages).predict_on_batch(pixels)
    np.testing.assert_allclose(received, whole[:, rows, rows].mean(axis=(1, 2)), rtol=1e-5)


def test_an_input_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 75 px"):
        build_base("inception_v3", 64)


def test_an_unknown_feature_layer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'block9_pool'"):
        feature_map(build_base("vgg16", 32), "block9_pool")
