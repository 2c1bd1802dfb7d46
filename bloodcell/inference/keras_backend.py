"""Everything that depends on Keras' backend and on the accelerator: compiling, devices, and lack of memory.

TensorFlow reads its environment variables when it is first imported. Every import of Keras or TensorFlow in this
package is inside a function of `inference` or of `training`, which import this module first.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from bloodcell.inference.quiet_start import has_nvidia_gpu, without_messages_about_cuda

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

log = logging.getLogger(__name__)

_TENSORFLOW: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # otherwise every start reports the GPUs that the machine does not have
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # otherwise one process takes all of a GPU's memory
    "NVIDIA_TF32_OVERRIDE": "0",  # TF32 keeps ten bits of a distance, too few: an SVM's decision was 0.04 off
}
for _name, _value in _TENSORFLOW.items():
    os.environ.setdefault(_name, _value)  # a site's own values stay
_ALL_MESSAGES: Final = ("0", "1")
_RETRACING: Final = "triggered tf.function retracing"
"""What TensorFlow warns of when a program, such as `bloodcell site report`, calls each of several models once."""
_BFLOAT16: Final = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls a processor's instructions for bfloat16, on x86 and on ARM."""


@functools.cache
def load_backend() -> None:
    """Imports Keras and its backend, and looks for GPUs.

    On a machine without a GPU, TensorFlow's messages about a missing CUDA are left out, unless TF_CPP_MIN_LOG_LEVEL
    asks for all messages; so is its warning of several models.
    """
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] not in _ALL_MESSAGES:
        logging.getLogger("tensorflow").addFilter(lambda record: _RETRACING not in str(record.msg))
    if has_nvidia_gpu() or os.environ["TF_CPP_MIN_LOG_LEVEL"] in _ALL_MESSAGES:
        _list_devices()
        return
    with without_messages_about_cuda():
        _list_devices()


def compile_model(model: keras.Model, **training: Any) -> None:
    """Compiles `model` in place for this backend and device, with exact float32.

    Args:
        model: The model that is to be run or trained.
        training: Optimizer and loss, as `keras.Model.compile` takes them; nothing if the model is only run.
    """
    exact_float32()
    model.compile(**training, jit_compile=_jit_compile())


def exact_float32() -> None:
    """Makes float32 computations exact, including those in the kernels that XLA writes itself.

    XLA's kernels do not read NVIDIA_TF32_OVERRIDE, which governs NVIDIA's libraries.
    """
    load_backend()
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")


@functools.cache
def device() -> str:
    """Returns what models run on, in words, for logs and for the record of a run; logs it once."""
    load_backend()
    import keras

    gpus, backend = _gpus(), keras.backend.backend()
    if gpus:
        found = f"{backend} on {', '.join(gpus)}"
    else:
        found = f"{backend} on {os.cpu_count()} cores: no GPU found (bloodcell doctor --deep says what is missing)"
    log.info("Models run by %s", found)
    return found


def training_precision(
    policy: Literal["float32", "mixed_bfloat16"], cpu: Path = Path("/proc/cpuinfo")
) -> Literal["float32", "mixed_bfloat16"]:
    """Returns Keras' dtype policy to train with: `policy`, or float32 where bfloat16 would only be imitated.

    A processor without its instructions (AVX512-BF16, AMX) computes in bfloat16 ten times more slowly than in float32.

    Args:
        policy: `float32` or `mixed_bfloat16`.
        cpu: File in which Linux lists what the processor can do; where there is none, `policy` is kept.
    """
    if policy == "float32" or _gpus() or not cpu.exists():
        return policy
    instructions = set(cpu.read_text().split())
    if instructions & _BFLOAT16:
        return policy
    log.info("Training in float32: this processor has no instructions for %s", policy)
    return "float32"


def training_strategy(batch_cells: int) -> tf.distribute.Strategy | None:
    """Returns TensorFlow's strategy that distributes each batch over as many GPUs as divide it evenly.

    Returns None with fewer than two GPUs, and with another backend.
    """
    import keras

    devices = _training_devices()
    n = max((k for k in range(1, len(devices) + 1) if batch_cells % k == 0), default=0)
    if n < 2 or keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    log.info("Batches are distributed over %s", ", ".join(devices[:n]))
    return tf.distribute.MirroredStrategy(devices[:n])


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether a device had no memory left for a computation, so that a smaller batch may succeed."""
    return type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError") or "RESOURCE_EXHAUSTED" in str(error)


def _jit_compile() -> bool:
    """Returns whether models are compiled by XLA.

    TensorFlow uses XLA on a GPU only, where it makes models faster; on two cores InceptionV3 ran 14.9 images/s without
    it and 12.4 with it. JAX always uses XLA, since it is slow otherwise. PyTorch never does.
    """
    import keras

    backend = keras.backend.backend()
    return backend == "jax" or (backend == "tensorflow" and bool(_gpus()))


def _training_devices() -> list[str]:
    return _gpus()


def _gpus() -> list[str]:
    load_backend()
    # JAX raises if it is asked for "gpu" and there is none
    return [name for name in _list_devices() if name.startswith("gpu")]


def _list_devices() -> list[str]:
    import keras

    return [str(name) for name in keras.distribution.list_devices()]
