"""The prediction loop on real bundles: one pass, in order, the same as each model alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.errors import UnusableFileError
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_loading import load_model
from bloodcell.inference.predicting import pixel_reader, predict, predict_all
from bloodcell.inference.read_ahead import Skipped
from bloodcell.registry.bundle import Bundle
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_file, read_image_folders
from tests.small_cells import model_settings


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return model_settings(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def images(cells: Path, quick: Settings) -> tuple[LabelledImage, ...]:
    return read_image_folders(quick, cells).images[:41]


def test_batches_are_of_the_set_size_and_in_the_order_of_the_images(
    svm_bundle: Bundle, tuned_bundle: Bundle, images: tuple[LabelledImage, ...], quick: Settings
) -> None:
    network = MergedNetwork([svm_bundle, tuned_bundle], batch_cells=quick.batch_cells)
    found = list(predict(network, images, read_file, quick))
    assert [len(batch) for batch, _ in found] == [16, 16, 9]
    assert [image for batch, _ in found for image in batch] == list(images)
    pixels = np.stack(
        [pixel_reader(read_file, network.input_sizes, quick)(image)[0] for image in images]
    )  # fmt: skip
    for bundle in (svm_bundle, tuned_bundle):
        alone = load_model(bundle).predict_on_batch(pixels)
        merged = np.concatenate([outputs[bundle.model_id].probabilities for _, outputs in found])
        np.testing.assert_allclose(merged, alone["probabilities"], atol=1e-5)


def test_progress_counts_images_and_each_is_read_once(
    svm_bundle: Bundle, tuned_bundle: Bundle, images: tuple[LabelledImage, ...], quick: Settings
) -> None:
    reads: list[str] = []
    progress: list[tuple[int, int]] = []

    def read(image: LabelledImage) -> bytes:
        reads.append(image.sha256)
        return read_file(image)

    outputs = predict_all(
        [svm_bundle, tuned_bundle], images, read, quick, lambda done, total: progress.append((done, total))
    )
    assert progress == [(16, 41), (32, 41), (41, 41)]
    assert sorted(reads) == sorted(image.sha256 for image in images)
    assert {len(output.novelty) for output in outputs.values()} == {41}


def test_without_images_every_output_is_empty(svm_bundle: Bundle, quick: Settings) -> None:
    output = predict_all([svm_bundle], (), read_file, quick)[svm_bundle.model_id]
    assert output.probabilities.shape == (0, 8)
    assert output.novelty.shape == (0,)


def test_a_broken_file_is_raised_or_skipped(
    svm_bundle: Bundle, images: tuple[LabelledImage, ...], quick: Settings
) -> None:
    def read(image: LabelledImage) -> bytes:
        return b"" if image == images[20] else read_file(image)

    network = MergedNetwork([svm_bundle], batch_cells=quick.batch_cells)
    with pytest.raises(UnusableFileError):
        list(predict(network, images, read, quick))
    skipped = Skipped(lambda: None)
    found = list(predict(network, images, read, quick, skipped))
    assert [image for batch, _ in found for image in batch] == [each for each in images if each != images[20]]
    assert len(skipped.reasons) == 1
