"""What depends on the device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell.inference import keras_backend
from bloodcell.inference.keras_backend import training_precision


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ("flags\t\t: fpu avx avx2 fma", "float32"),
        ("flags\t\t: fpu avx avx2 avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", "mixed_bfloat16"),
        ("Features\t: fp asimd sve bf16", "mixed_bfloat16"),
    ],
)
def test_a_processor_that_would_only_imitate_bfloat16_trains_in_float32(
    instructions: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_backend, "_gpus", list)
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(f"processor\t: 0\n{instructions}\n")
    assert training_precision("mixed_bfloat16", cpu) == expected
    assert training_precision("float32", cpu) == "float32"
    monkeypatch.setattr(keras_backend, "_gpus", lambda: ["gpu:0"])
    assert training_precision("mixed_bfloat16", cpu) == "mixed_bfloat16"


def test_without_a_list_of_instructions_the_recipe_is_followed(tmp_path: Path) -> None:
    assert training_precision("mixed_bfloat16", tmp_path / "none") == "mixed_bfloat16"


SEVERAL_MODELS = """
import numpy as np
from bloodcell.inference.keras_backend import compile_model, load_backend

load_backend()
import keras

for _ in range(6):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    compile_model(model)
    model.predict_on_batch(np.zeros((2, 4), np.float32))
"""


@pytest.mark.parametrize(("level", "expected"), [("2", False), ("0", True)])
def test_several_models_are_no_mistake_that_people_have_to_read_of(level: str, expected: bool) -> None:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": level}
    command = [sys.executable, "-c", SEVERAL_MODELS]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert ("retracing" in done.stderr) is expected
