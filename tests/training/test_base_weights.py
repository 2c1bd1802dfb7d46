from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from bloodcell.errors import WeightsError
from bloodcell.registry.bundle import file_digest
from bloodcell.settings import Settings
from bloodcell.training.base_networks import build_base
from bloodcell.training.base_weights import load_base_weights
from tests.small_cells import model_settings

STAND_IN = "vgg16_imagenet_notop.fp16.weights.h5"


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build_base("vgg16", 32)


def test_weights_from_a_folder_are_loaded_and_named(network: keras.Model, shared: Path, tmp_path: Path) -> None:
    weights = load_base_weights(network, "vgg16", "imagenet", model_settings(tmp_path, shared / "weights"))
    assert (weights.kind, weights.file) == ("imagenet", STAND_IN)
    assert weights.sha256.startswith("65c4f9c6")
    # The first value of the official VGG-16 file, as keras.applications loads it; the stand-in is rounded to float16.
    assert float(network.get_layer("block1_conv1").kernel[0, 0, 0, 0]) == pytest.approx(0.42947, abs=1e-3)


def test_weights_with_a_wrong_digest_are_refused_with_both_digests(network: keras.Model, tmp_path: Path) -> None:
    (tmp_path / STAND_IN).write_bytes(b"not weights")
    with pytest.raises(WeightsError, match=rf"{STAND_IN}.*Expected sha256 65c4f9c6.*received [0-9a-f]{{64}}"):
        load_base_weights(network, "vgg16", "imagenet", model_settings(tmp_path, tmp_path))


def test_an_official_file_with_a_wrong_digest_is_refused_and_not_skipped(network: keras.Model, tmp_path: Path) -> None:
    (tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="Expected md5 6d6bbae1"):
        load_base_weights(network, "vgg16", "imagenet", model_settings(tmp_path, tmp_path))


def test_a_folder_without_weights_is_refused_with_the_names_of_the_files(network: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"BLOODCELL_WEIGHTS_DIR.*{STAND_IN}"):
        load_base_weights(network, "vgg16", "imagenet", model_settings(tmp_path, tmp_path))


def test_a_download_that_fails_points_to_the_weights_folder(
    network: keras.Model, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port: refused at once, on any machine
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not be downloaded.*BLOODCELL_WEIGHTS_DIR"):
        load_base_weights(network, "vgg16", "imagenet", settings)


def test_weights_of_a_file_are_loaded_and_identified_by_their_digest(
    network: keras.Model, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "own.weights.h5"
    network.save_weights(path)
    kernel = network.get_layer("block3_conv1").get_weights()[0]
    other = build_base("vgg16", 32)
    weights = load_base_weights(other, "vgg16", path, settings)
    assert np.array_equal(kernel, other.get_layer("block3_conv1").get_weights()[0])
    assert (weights.kind, weights.file) == ("file", "own.weights.h5")
    assert weights.sha256 == file_digest(path)


@pytest.mark.parametrize("body", [None, b"not weights"], ids=["missing", "broken"])
def test_a_file_that_holds_no_such_weights_is_refused(
    network: keras.Model, settings: Settings, tmp_path: Path, body: bytes | None
) -> None:
    path = tmp_path / "own.weights.h5"
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(WeightsError, match=r"own\.weights\.h5 does not fit vgg16"):
        load_base_weights(network, "vgg16", path, settings)
