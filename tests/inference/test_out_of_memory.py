"""A process without enough memory for a batch continues with smaller ones, and its results are the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bloodcell.registry.bundle import Bundle
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

# each cell of a batch requests 1 GiB that is never written to; the process's limit makes the allocator refuse 32 of
# these
IN_LITTLE_MEMORY = """
import logging, resource, sys
import keras
import numpy as np
import tensorflow as tf
from pathlib import Path
from bloodcell.registry.bundle import open_bundle
from bloodcell.inference.merged_network import MergedNetwork

class Hungry(keras.layers.Layer):
    def call(self, pixels):
        with tf.control_dependencies([tf.raw_ops.Empty(shape=[tf.shape(pixels)[0], 2**28], dtype=tf.float32)]):
            return tf.identity(pixels)

logging.basicConfig(level="WARNING")
bundle = open_bundle(Path(sys.argv[1]))
network = MergedNetwork([bundle], batch_cells=64)
cells = np.random.default_rng(0).integers(0, 256, (70, *bundle.input_size.shape), dtype=np.uint8)
plain = network({bundle.input_size: cells})[bundle.model_id]
fed = {name: Hungry()(tensor) for name, tensor in network.model.input.items()}
network.model = keras.Model(network.model.input, network.model(fed))
network.model.compile(jit_compile=False)
resource.setrlimit(resource.RLIMIT_AS, (30 * 2**30, resource.RLIM_INFINITY))
found = network({bundle.input_size: cells})[bundle.model_id]
np.testing.assert_allclose(found.probabilities, plain.probabilities, atol=1e-5)
print("the same for", len(found.probabilities))
"""


def test_a_batch_that_does_not_fit_in_memory_is_halved(svm_bundle: Bundle) -> None:
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(svm_bundle.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "the same for 70\n", done.stderr[-3000:]
    logged = [line for line in done.stderr.splitlines() if "Not enough memory for" in line]
    assert [line.split("Not enough memory for ")[1].split(".")[0] for line in logged] == [
        "64 cells at once: continuing with 32",
        "32 cells at once: continuing with 16",
    ]
