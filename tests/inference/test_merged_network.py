from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import psutil
import pytest

from bloodcell.cells.image_size import Size
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import Bundle
from bloodcell.training.bundle_training import train
from tests.small_cells import SVM_RECIPE, model_settings, random_weights

SIZE = Size(32, 32)


@pytest.fixture(scope="module")
def network(svm_bundle: Bundle, tuned_bundle: Bundle) -> MergedNetwork:
    return MergedNetwork([tuned_bundle, svm_bundle], batch_cells=24)


def test_every_output_equals_that_of_the_model_alone(
    network: MergedNetwork, svm_bundle: Bundle, tuned_bundle: Bundle, pixels: np.ndarray
) -> None:
    outputs = network({SIZE: pixels})
    assert network.model_ids == (tuned_bundle.model_id, svm_bundle.model_id) == tuple(outputs)
    for bundle in (svm_bundle, tuned_bundle):
        alone, merged = load_model(bundle).predict_on_batch(pixels), outputs[bundle.model_id]
        assert merged.probabilities.shape == (24, 8)
        assert merged.novelty.shape == (24,)
        assert merged.probabilities.dtype == np.float32
        np.testing.assert_allclose(merged.probabilities, alone["probabilities"], atol=1e-6)
        np.testing.assert_allclose(merged.embedding, alone["embedding"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(merged.novelty, alone["novelty"], rtol=1e-5)
        np.testing.assert_allclose(merged.probabilities.sum(axis=1), 1.0, atol=1e-5)


def test_frozen_blocks_of_twins_run_once(network: MergedNetwork) -> None:
    shared = [f"block{block}_{layer}" for block in (1, 2) for layer in ("conv1", "conv2", "pool")]
    names = [operation.name for operation in network.model.operations]
    for name in shared:
        assert sum(each == name or each.startswith(f"{name}__") for each in names) == 1
    assert sum(name.startswith("block3_conv1") for name in names) == 1, "only the fine-tuned twin goes deeper"
    assert sum(name.startswith("probabilities") for name in names) == 2


def test_blocks_with_other_weights_are_not_shared(svm_bundle: Bundle, cells: Path, tmp_path: Path) -> None:
    other = train("vgg16_svm", cells, model_settings(tmp_path), recipe=SVM_RECIPE, base=random_weights(seed=1))
    names = [operation.name for operation in MergedNetwork([svm_bundle, other]).model.operations]
    assert sum(name.startswith("block1_conv1") for name in names) == 2
    assert sum(name.startswith("centred") and "features" not in name for name in names) == 1


def test_a_bundle_given_twice_counts_once(svm_bundle: Bundle) -> None:
    assert MergedNetwork([svm_bundle, svm_bundle]).model_ids == (svm_bundle.model_id,)


def test_a_cell_has_the_same_output_whatever_else_is_in_the_batch(network: MergedNetwork, pixels: np.ndarray) -> None:
    together = network({SIZE: np.concatenate([pixels, pixels[::-1]])})
    alone = network({SIZE: pixels[5:6]})
    for model_id, output in alone.items():
        np.testing.assert_allclose(output.probabilities[0], together[model_id].probabilities[5], atol=1e-6)
        np.testing.assert_allclose(output.probabilities[0], together[model_id].probabilities[-6], atol=1e-6)
        assert len(together[model_id].novelty) == 48


def test_no_cells_give_empty_outputs(network: MergedNetwork, pixels: np.ndarray) -> None:
    for output in network({SIZE: pixels[:0]}).values():
        assert output.probabilities.shape == (0, 8)
        assert output.novelty.shape == (0,)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ({}, "Missing"),
        ({SIZE: np.zeros((2, 33, 32, 3), np.uint8)}, r"\(2, 33, 32, 3\)"),
        ({SIZE: np.zeros((2, 32, 32, 3), np.float32)}, "float32"),
        ({SIZE: np.zeros((2, 32, 32), np.uint8)}, r"\(2, 32, 32\)"),
    ],
)
def test_batches_that_do_not_fit_are_refused(
    network: MergedNetwork, batches: dict[Size, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(batches)


def test_float32_is_exact_in_xlas_own_kernels_too(svm_bundle: Bundle) -> None:
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    MergedNetwork([svm_bundle])
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_memory_does_not_grow_with_the_batches(svm_bundle: Bundle) -> None:
    network = MergedNetwork([svm_bundle], batch_cells=1)
    cell = np.zeros((1, *SIZE.shape), np.uint8)

    def growth(n_batches: int) -> int:
        before = psutil.Process().memory_info().rss
        for _ in range(n_batches):
            network({SIZE: cell})
        gc.collect()
        return int(psutil.Process().memory_info().rss - before)

    growth(200)
    # the median of three rounds: a leak grows in each, what the rest of the process takes or frees only now and then
    assert sorted(growth(400) for _ in range(3))[1] < 3 * 2**20
