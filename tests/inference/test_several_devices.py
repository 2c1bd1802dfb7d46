"""Two devices, here two halves of the processor, train the model that one trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.training

ON_TWO_DEVICES = """
import logging, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import tensorflow as tf
from bloodcell.inference import keras_backend
from bloodcell.inference.model_loading import load_model
from bloodcell.training.bundle_training import train
from tests.small_cells import PIXELS_RECIPE, model_settings, random_weights

logging.basicConfig(level="INFO")
(processor,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
# each device draws its own dropout, and bfloat16 rounds differently in half a batch
tuning = replace(PIXELS_RECIPE.tuning, dropout=1e-9, precision="float32", head_epochs=1, deep_epochs=1, batch_cells=16)
recipe = replace(PIXELS_RECIPE, tuning=tuning)
cells, data = Path(sys.argv[1]), Path(sys.argv[2])

def trained(devices):
    keras_backend._training_devices = lambda: devices
    settings = model_settings(data / f"on-{len(devices)}")
    return load_model(train("vgg16", cells, settings, recipe=recipe, base=random_weights()))

one, two = trained([]), trained(["cpu:0", "cpu:1", "cpu:2"])
pixels = np.random.default_rng(0).integers(0, 256, (16, 40, 40, 3), np.uint8)
p, q = (model.predict_on_batch(pixels)["probabilities"] for model in (one, two))
np.testing.assert_allclose(p, q, atol=2e-3)
print("spread", float(p.max(axis=1).mean() - 1 / 8) > 0.05)
"""


def test_two_devices_train_the_same_model_as_one(cells: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_TWO_DEVICES, str(cells), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "spread True\n", done.stdout + done.stderr[-3000:]
    # three do not divide a batch of sixteen
    assert done.stderr.count("Batches are distributed over cpu:0, cpu:1\n") == 1
