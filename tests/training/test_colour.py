"""Colours are moved into the range of the training images, and the cell in the middle does not count."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from bloodcell.drawing.cells import draw_cell
from bloodcell.training import colour
from bloodcell.training.base_networks import build_base

SIDE_PX = 90


@pytest.fixture(scope="module")
def model() -> keras.Model:
    pixels = keras.Input((SIDE_PX, SIDE_PX, 3), dtype="uint8")
    return keras.Model(pixels, colour.standardised(pixels, keras.layers.Identity()))


@pytest.fixture(scope="module")
def cell() -> np.ndarray:
    drawn = Image.fromarray(draw_cell("lymphocyte", np.random.default_rng(3)))
    return np.asarray(drawn.resize((SIDE_PX, SIDE_PX)))


def lab_of(pixels: np.ndarray) -> np.ndarray:
    light = keras.Input((*pixels.shape[1:],))
    return np.asarray(keras.Model(light, colour._lab(light, "lab")).predict_on_batch(pixels))


def test_lab_is_that_of_the_standards() -> None:
    """The formulas of IEC 61966-2-1 and CIE 15:2004, with their straight parts near black."""
    pixels = np.random.default_rng(0).integers(40, 256, (1, 20, 20, 3))
    light = pixels / 255
    linear = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratios = linear @ to_xyz.T / [0.9505, 1.0, 1.089]
    x, y, z = np.moveaxis(np.where(ratios > 216 / 24389, np.cbrt(ratios), (24389 / 27 * ratios + 16) / 116), -1, 0)
    expected = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    np.testing.assert_allclose(lab_of(pixels.astype(np.float32)), expected, atol=0.1)


def colours_around(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lab = lab_of(pixels[None].astype(np.float32))[0]
    around = np.ones((SIDE_PX, SIDE_PX), bool)
    around[22:-22, 22:-22] = False
    return lab[around].mean(axis=0), lab[around].std(axis=0)


def with_colours_around(image: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Returns the image with these statistics of L*a*b* outside of its middle, float32 in 0..255."""
    lab = keras.Input((*image.shape,))
    rgb = keras.Model(lab, colour._rgb(lab))
    mean, deviation = colours_around(image)
    moved = (lab_of(image[None].astype(np.float32)) - mean) / deviation * deviations + means
    return np.asarray(rgb.predict_on_batch(moved.astype(np.float32))[0])


def test_colours_that_training_images_have_are_left_alone(model: keras.Model, cell: np.ndarray) -> None:
    usual = with_colours_around(cell, *(np.array(values)[:, 0] for values in (colour.MEANS, colour.DEVIATIONS)))
    image = np.round(usual).astype(np.uint8)
    seen = model.predict_on_batch(image[None])[0]
    dark = image < 25  # left out of the curves (`colour`)
    assert np.abs(seen - image)[~dark].max() < 1.5


@pytest.mark.parametrize("light", [(0.8, 0.9, 1.0), (0.7, 0.6, 0.6), (0.9, 1.0, 0.7)])
def test_other_colours_are_moved_to_the_edge_of_the_range(
    model: keras.Model, cell: np.ndarray, light: tuple[float, ...]
) -> None:
    (means, spread), (deviations, spread_of_deviations) = (np.array(v).T for v in (colour.MEANS, colour.DEVIATIONS))
    image = (with_colours_around(cell, means, deviations) * light).astype(np.uint8)
    before, _ = colours_around(image)
    after, deviation = colours_around(model.predict_on_batch(image[None])[0])
    outside = np.abs(before - means) > 2 * spread
    assert outside.any()
    nearest = np.clip(before, means - 2 * spread, means + 2 * spread)
    np.testing.assert_allclose(after[outside], nearest[outside], atol=1.0)
    assert (np.abs(deviation - deviations) < 2.5 * spread_of_deviations).all()


def test_the_lamp_matters_less(model: keras.Model, cell: np.ndarray) -> None:
    bluish, yellowish = ((cell * light).astype(np.uint8) for light in ([0.65, 0.8, 1.0], [1.0, 0.85, 0.65]))
    one, other = (model.predict_on_batch(image[None])[0] for image in (bluish, yellowish))
    assert np.abs(one - other).mean() < 0.7 * np.abs(bluish.astype(float) - yellowish).mean()


def test_the_cell_in_the_middle_does_not_change_the_colours_around_it(model: keras.Model, cell: np.ndarray) -> None:
    without = cell.copy()
    without[30:60, 30:60] = cell[0, 0]
    one, other = (model.predict_on_batch(image[None])[0] for image in (cell, without))
    np.testing.assert_allclose(one[:20], other[:20], atol=0.05)


def test_a_network_that_standardises_sees_the_middle_in_those_colours(cell: np.ndarray) -> None:
    network = build_base("vgg16", SIDE_PX, 60, standardises_colour=True)
    seen = keras.Model(network.inputs, network.get_layer(colour.COLOURED).output)
    assert seen.output_shape == (None, 60, 60, 3)
    assert {layer.dtype_policy.name for layer in seen.layers if layer.weights} == {"float32"}
