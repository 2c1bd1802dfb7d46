"""An augmented image still shows the same cell, and its changes come from the given generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell.registry.recipes import Augmentation
from bloodcell.training.augmentation import Look, augmented, recoloured

NONE = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 90, 0.0, shade=0.0)


@pytest.fixture(scope="module")
def disc() -> np.ndarray:
    """A dark disc with a bright mark to its right, on a white field: 64x64 px."""
    y, x = np.mgrid[:64, :64]
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[(x - 31.5) ** 2 + (y - 31.5) ** 2 < 15**2] = (150, 90, 160)
    pixels[30:34, 38:42] = (240, 230, 20)
    return pixels


def test_without_any_allowed_change_an_image_is_at_most_mirrored(disc: np.ndarray) -> None:
    random = np.random.default_rng(0)
    seen = {augmented(disc, NONE, random).tobytes() for _ in range(12)}
    assert seen == {disc.tobytes(), disc[:, ::-1].tobytes()}


def test_the_same_seed_gives_the_same_image_and_another_seed_another(disc: np.ndarray) -> None:
    one, again, other = (augmented(disc, Augmentation(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == disc.shape and one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_number_of_draws_does_not_depend_on_their_values(disc: np.ndarray) -> None:
    """An image that is not blurred must not shift the draws of later images."""
    never, always = np.random.default_rng(3), np.random.default_rng(3)
    augmented(disc, Augmentation(degraded_share=0.0), never)
    augmented(disc, Augmentation(degraded_share=1.0), always)
    assert never.random() == always.random()


def test_rotation_and_shift_keep_the_cell_in_the_middle(disc: np.ndarray) -> None:
    y, x = np.mgrid[:64, :64]
    for seed in range(20):
        turned = augmented(
            disc, Augmentation(180.0, 0.15, 0.0, 0.0, 0.0, 0.0, 90, 0.0, shade=0.0), np.random.default_rng(seed)
        )
        dark = turned[..., 1] < 240
        assert abs(x[dark].mean() - 31.5) < 0.5 and abs(y[dark].mean() - 31.5) < 0.5
        assert 15**2 * np.pi / 1.15**2 * 0.93 < dark.sum() < 15**2 * np.pi * 1.15**2 * 1.07


def test_no_corner_is_empty_after_the_largest_rotation_reduction_and_shift() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    allowed = Augmentation(zoom=0.15, shift=0.03, stain=0.0, brightness=0.0, degraded_share=0.0)
    for seed in range(40):
        assert augmented(white, allowed, np.random.default_rng(seed)).min() == 255


def test_more_dye_darkens_the_cell_and_not_the_empty_field(disc: np.ndarray) -> None:
    more = recoloured(disc, Look(1.0, np.diag([1.5, 1.5, 1.0]), np.ones(3)))
    assert (more[0, 0] == 255).all()
    cell, darker = disc[32, 25] / 255, more[32, 25] / 255
    np.testing.assert_allclose(-np.log(darker), -np.log(cell) * [1.5, 1.5, 1.0], atol=0.01)


def test_more_contrast_makes_dark_parts_darker_than_pale_ones(disc: np.ndarray) -> None:
    densities = [-np.log(recoloured(disc, Look(exponent, np.eye(3), np.ones(3)))[32, 25] / 255) for exponent in (1, 2)]
    np.testing.assert_allclose(densities[1], densities[0] ** 2, atol=0.01)


def test_another_lamp_colours_the_empty_field_and_keeps_the_densities(disc: np.ndarray) -> None:
    white = np.array([0.8, 0.9, 0.7])
    seen = recoloured(disc, Look(1.0, np.eye(3), white))
    np.testing.assert_allclose(seen[0, 0], 255 * white, atol=1)
    np.testing.assert_allclose(seen[32, 25], disc[32, 25] * white, atol=1)


def test_a_channel_that_sees_another_gets_part_of_its_density(disc: np.ndarray) -> None:
    mixing = np.eye(3)
    mixing[1, 2] = 0.2  # of green, seen by blue
    density, before = (
        -np.log(image[32, 25] / 255) for image in (recoloured(disc, Look(1.0, mixing, np.ones(3))), disc)
    )
    np.testing.assert_allclose(density - before, [0, 0, 0.2 * before[1]], atol=0.01)
