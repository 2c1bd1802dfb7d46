from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.errors import ConfigurationError
from bloodcell.settings import Settings
from bloodcell.training.base_networks import build_base, feature_map, pooled
from bloodcell.training.feature_cache import cached_outputs
from bloodcell.training.image_changes import AS_IS, Turned
from bloodcell.training.image_folders import read_file, read_image_folders
from tests.conftest import small_disk

Images = tuple[LabelledImage, ...]


class Killed(BaseException):
    """Stands for the end of the process: nothing in the product catches it."""


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build_base("vgg16", 32)


@pytest.fixture
def images(cells: Path, settings: Settings) -> Images:
    return read_image_folders(settings, cells).images[:70]


def _compute(network: keras.Model, images: Images, cache: Path, settings: Settings, on_image: Any = None) -> Any:
    outputs = {"map": feature_map(network, "block1_pool"), "means": pooled(network, ("block1_pool",))}
    return cached_outputs(
        network,
        outputs,
        images,
        read=read_file,
        change=AS_IS,
        cache=cache,
        settings=settings,
        on_image=on_image or (lambda done, total: None),
    )


def test_rows_are_those_of_the_images_in_their_order(
    network: keras.Model, images: Images, settings: Settings, tmp_path: Path
) -> None:
    outputs = _compute(network, images, tmp_path, settings)
    maps = outputs["map"][:]
    assert maps.shape == (70, 16, 16, 64)
    assert maps.dtype == np.float16
    np.testing.assert_allclose(maps.astype(np.float32).mean(axis=(1, 2)), outputs["means"][:], rtol=2e-3, atol=0.05)
    alone = _compute(network, images[69:], tmp_path, settings)
    np.testing.assert_allclose(outputs["means"][69], alone["means"][0], rtol=1e-5, atol=1e-5)


def test_what_is_cached_is_not_computed_again(
    network: keras.Model, images: Images, settings: Settings, tmp_path: Path
) -> None:
    first = _compute(network, images, tmp_path, settings)
    calls: list[int] = []
    again = _compute(network, images, tmp_path, settings, lambda done, total: calls.append(done))
    assert calls == []
    np.testing.assert_array_equal(first["means"][:], again["means"][:])


def test_with_more_images_only_the_new_ones_are_computed_in_any_order(
    network: keras.Model, images: Images, settings: Settings, tmp_path: Path
) -> None:
    first = _compute(network, images[:40], tmp_path, settings)
    calls: list[tuple[int, int]] = []
    more = _compute(network, images[::-1], tmp_path, settings, lambda done, total: calls.append((done, total)))
    assert calls == [(56, 70), (70, 70)]
    np.testing.assert_array_equal(more["means"][::-1][:40], first["means"][:])
    whole = _compute(network, images, tmp_path / "whole", settings)
    np.testing.assert_allclose(more["map"][::-1].astype(float), whole["map"][:].astype(float), rtol=2e-3, atol=1e-2)


def test_other_weights_give_other_rows(images: Images, settings: Settings, tmp_path: Path) -> None:
    first, second = build_base("vgg16", 32), build_base("vgg16", 32)
    for network in (first, second):
        _compute(network, images[:8], tmp_path, settings)
    one, other = (np.array(_compute(each, images[:8], tmp_path, settings)["means"][:]) for each in (first, second))
    assert not np.array_equal(one, other)


def test_a_row_whose_digest_was_truncated_by_a_kill_is_computed_again(
    network: keras.Model, images: Images, settings: Settings, tmp_path: Path
) -> None:
    whole = _compute(network, images, tmp_path, settings)["means"][:].copy()
    for digests in tmp_path.rglob("images.txt"):
        digests.write_bytes(digests.read_bytes()[: 65 * 64 + 20])
    np.testing.assert_allclose(_compute(network, images, tmp_path, settings)["means"][:], whole, rtol=1e-5, atol=1e-5)


def test_an_interrupted_computation_resumes_and_gives_the_same_rows(
    network: keras.Model, images: Images, settings: Settings, tmp_path: Path
) -> None:
    def die(done: int, total: int) -> None:
        if done >= 64:
            raise Killed

    with pytest.raises(Killed):
        _compute(network, images, tmp_path / "cut", settings, die)
    seen: list[int] = []
    resumed = _compute(network, images, tmp_path / "cut", settings, lambda done, total: seen.append(done))
    assert seen == [70]
    np.testing.assert_array_equal(
        resumed["means"][:], _compute(network, images, tmp_path / "whole", settings)["means"][:]
    )


def test_two_simultaneous_calls_compute_once_and_both_get_all_rows(
    network: keras.Model, images: Images, settings: Settings, tmp_path: Path
) -> None:
    counted: list[int] = []
    with ThreadPoolExecutor(2) as threads:
        results = [
            threads.submit(_compute, network, images, tmp_path, settings, lambda done, total: counted.append(done))
            for _ in range(2)
        ]
        first, second = (result.result() for result in results)
    assert counted == sorted(set(counted))
    np.testing.assert_array_equal(first["means"][:], second["means"][:])
    assert (np.abs(first["means"][:]).sum(axis=1) > 0).all()


def test_a_full_disk_is_reported_as_a_configuration_error(
    network: keras.Model, images: Images, settings: Settings, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "200k") as disk, pytest.raises(ConfigurationError, match="No space left"):
        _compute(network, images, disk, settings)


def test_the_eight_transforms_are_different_and_the_first_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    shown = [Turned(each)(pixels, "") for each in range(8)]
    assert np.array_equal(shown[0], pixels)
    assert len({each.tobytes() for each in shown}) == 8
