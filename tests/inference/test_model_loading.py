"""A bundle's model is loaded safely, and only if it has the inputs and outputs of its format."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import pytest

from bloodcell.errors import BundleError
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import Bundle, images_of, open_bundle, write_bundle


def test_a_model_with_code_in_it_is_not_loaded(svm_bundle: Bundle, tmp_path: Path) -> None:
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    keras.Model(pixels, keras.layers.Lambda(lambda each: each)(pixels)).save(tmp_path / "model.keras")
    forged = write_bundle(tmp_path / "out", svm_bundle.manifest, {"model.keras": tmp_path / "model.keras"})
    with pytest.raises(BundleError, match="cannot be loaded safely"):
        load_model(forged)


def test_a_model_of_other_outputs_is_refused(svm_bundle: Bundle, tmp_path: Path) -> None:
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    keras.Model(pixels, keras.layers.Flatten()(pixels)).save(tmp_path / "model.keras")
    forged = write_bundle(tmp_path / "out", svm_bundle.manifest, {"model.keras": tmp_path / "model.keras"})
    with pytest.raises(BundleError, match="not a model of this format"):
        load_model(forged)


def test_a_model_of_another_input_size_is_refused(svm_bundle: Bundle, tmp_path: Path) -> None:
    files = {name: svm_bundle.folder / name for name in svm_bundle.manifest.files}
    forged = write_bundle(tmp_path, replace(svm_bundle.manifest, input_height_px=64), files)
    with pytest.raises(BundleError, match=r"expected input \(64, 32, 3\)"):
        load_model(forged)


def test_a_file_that_is_swapped_after_the_bundle_was_verified_is_not_loaded(
    svm_bundle: Bundle, tuned_bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / svm_bundle.model_id
    shutil.copytree(svm_bundle.folder, folder)
    verified = open_bundle(folder)
    shutil.copyfile(tuned_bundle.folder / "model.keras", folder / "model.keras")
    with pytest.raises(BundleError, match=r"model\.keras is altered: expected sha256"):
        load_model(verified)
    (folder / "images.csv").unlink()
    with pytest.raises(BundleError, match=r"images\.csv cannot be read: No such file"):
        images_of(verified)
