"""The shipped models' networks in several precisions: their calls beside another machine's, and the forward pass."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import platformdirs

from benchmarks.speed.line import markdown_table
from benchmarks.speed.material import cell_images
from benchmarks.speed.place import Place, apart
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.storage.decoding import ImageBounds, decode, resized

PRECISIONS: dict[str, dict[str, str]] = {
    "float32": {},  # as bloodcell sets it
    "float32 in NVIDIA's libraries": {},  # not in the kernels that XLA writes itself
    "tf32": {"NVIDIA_TF32_OVERRIDE": "1"},
    "bfloat16": {},
}
ALL = "all four"
MATRIX = 8192


def write_outputs(file: Path, n_cells: int) -> None:
    """Writes the shipped models' outputs for cells, and the cells themselves."""
    bodies = [path.read_bytes() for path in cell_images(no_place(), n_cells)]
    said = _outputs_of(bodies, batch_cells=32)
    ends = np.cumsum([len(body) for body in bodies])
    arrays: dict[str, Any] = {"files": np.frombuffer(b"".join(bodies), np.uint8), "ends": ends, **said}
    np.savez_compressed(file, **arrays)


def the_same_calls(file: Path) -> str:
    """Compares the shipped models' outputs, in each precision, with those in `file`."""
    rows: list[tuple[str, ...]] = [
        ("model", "precision", "calls that differ", "largest difference of a probability", "of novelty, relative")
    ]
    with ThreadPoolExecutor(len(PRECISIONS)) as threads:
        for precision, found in zip(
            PRECISIONS, threads.map(lambda each: apart(_compared, file, each), PRECISIONS), strict=True
        ):
            rows += [(model, precision, *figures) for model, figures in found.items()]
    return markdown_table(rows)


def _compared(file: Path, precision: str) -> dict[str, tuple[str, ...]]:
    from bloodcell.cells.calls import decide

    bodies, expected = read_outputs(file)
    received = _outputs_of(bodies, batch_cells=128, precision=precision)
    found: dict[str, tuple[str, ...]] = {}
    for bundle in shipped():
        manifest, name = bundle.manifest, bundle.manifest.variant
        a, b = ((said[f"{name}.p"], said[f"{name}.novelty"]) for said in (expected, received))
        thresholds = (manifest.confidence_threshold, manifest.novelty_threshold)
        one, other = (
            decide(*of, confidence_threshold=thresholds[0], novelty_threshold=thresholds[1]).called for of in (a, b)
        )
        differ = np.asarray(one) != np.asarray(other)
        found[name] = (
            f"{np.count_nonzero(differ)} of {len(differ):,}",
            f"{np.abs(a[0] - b[0]).max():.1e}",
            f"{(np.abs(a[1] - b[1]) / np.abs(a[1])).max():.1e}",
        )
    return found


def read_outputs(file: Path) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """Returns the cells' files, and the models' outputs for them."""
    with np.load(file, allow_pickle=False) as stored:
        said = {name: stored[name] for name in stored.files}
    parts = np.split(said.pop("files"), said.pop("ends")[:-1])
    return [part.tobytes() for part in parts], said


def _outputs_of(bodies: Sequence[bytes], *, batch_cells: int, precision: str = "float32") -> dict[str, np.ndarray]:
    bundles = shipped()
    network = loaded(bundles, precision, batch_cells)
    outputs = network(_pixels(bodies, network.input_sizes))
    said = {}
    for bundle in bundles:
        output = outputs[bundle.model_id]
        said[f"{bundle.manifest.variant}.p"], said[f"{bundle.manifest.variant}.novelty"] = (
            output.probabilities,
            output.novelty,
        )
    return said


def _pixels(bodies: Sequence[bytes], sizes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], np.ndarray]:
    bounds = ImageBounds.of(Settings())
    images = [decode(body, bounds) for body in bodies]
    return {size: np.stack([resized(image, *size) for image in images]) for size in sizes}


def forward_passes(batches: Sequence[int], seconds: float) -> str:
    """Measures every variant by batch and precision, pixels in memory to probabilities in memory."""
    names = (*variants(), ALL)
    found = _compiled_together([(name, "float32", tuple(batches)) for name in names], seconds)
    for precision in ("bfloat16", "tf32"):  # more at once would not leave enough memory for autotuning
        found |= _compiled_together([(name, precision, (batches[1],)) for name in names], seconds)
    rates = {precision: speeds.matrix for (name, precision), speeds in found.items() if name == ALL}
    rows: list[tuple[str, ...]] = [
        ("model", "precision", "GFLOP a cell", *(f"{n} cells" for n in batches), "of the matrix rate")
    ]
    for (name, precision), speeds in found.items():
        cells = [f"{speeds.per_s[n]:,.0f}" if n in speeds.per_s else "" for n in batches]
        share = max(speeds.per_s.values()) * speeds.flop / rates[precision]
        rows.append((name, precision, f"{speeds.flop / 1e9:.2f}", *cells, f"{share:.0%}"))
    matrix = ", ".join(f"{precision} {rate / 1e12:,.0f} TFLOP/s" for precision, rate in rates.items())
    return (
        f"Cells a second by the cells of a batch, pixels in memory to probabilities in memory. Product of two "
        f"{MATRIX:,} x {MATRIX:,} matrices: {matrix}.\n\n{markdown_table(rows)}"
    )


@dataclass(frozen=True, slots=True)
class Speeds:
    """Cells per second by the size of a batch, operations per cell, operations per second of a product of matrices."""

    per_s: dict[int, float]
    flop: float
    matrix: float


def _compiled_together(
    wanted: Sequence[tuple[str, str, Sequence[int]]], seconds: float
) -> dict[tuple[str, str], Speeds]:
    """Returns the speeds of networks that compile at the same time in separate processes and are measured in turn."""
    with NamedTemporaryFile() as lock, ThreadPoolExecutor(len(wanted)) as threads:
        futures = {
            (name, precision): threads.submit(apart, _speeds, name, precision, batches, seconds, Path(lock.name))
            for name, precision, batches in wanted
        }
        return {each: future.result() for each, future in futures.items()}


def _speeds(name: str, precision: str, batches: Sequence[int], seconds: float, lock: Path) -> Speeds:
    rng, found = np.random.default_rng(0), {}
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        network = loaded(shipped(name), precision, 1)
        flop = operations([load_model(bundle) for bundle in shipped(name)])
        given = {
            n: {size: rng.integers(0, 256, (n, *size.shape), np.uint8) for size in network.input_sizes} for n in batches
        }
        for n in batches:
            network.batch_cells = n
            network(given[n])
        fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(2)  # lets the others take their shared locks before one asks for the exclusive lock
        fcntl.flock(file, fcntl.LOCK_EX)
        for n in batches:
            network.batch_cells, n_done = n, 0
            network(given[n])
            if network.batch_cells < n:
                continue  # not enough memory for so many
            started = time.perf_counter()
            while n_done < 3 or time.perf_counter() - started < seconds:
                network(given[n])
                n_done += 1
            found[n] = n * n_done / (time.perf_counter() - started)
        return Speeds(found, flop, matrix_rate(precision) if name == ALL else 0.0)


def matrix_rate(precision: str) -> float:
    """Returns the operations a second of a product of two matrices."""
    import keras

    set_precision(precision)
    side = MATRIX if has_gpu() else 512
    matrix = keras.random.normal((side, side), dtype="bfloat16" if precision == "bfloat16" else "float32")

    def run(n: int) -> float:
        product, started = matrix, time.perf_counter()
        for _ in range(n):
            product = keras.ops.matmul(matrix, product) * (1 / side**0.5)
        keras.ops.convert_to_numpy(keras.ops.cast(product[:1, :1], "float32"))
        return time.perf_counter() - started

    run(3)
    return 20 * 2 * side**3 / run(20)


def operations(models: Sequence[Any]) -> float:
    """Returns the operations of one cell: two for each multiplication of a convolution or a dense layer.

    Layers that two of the models share count once, as they run.
    """
    seen: dict[Any, float] = {}
    for layer in (layer for model in models for layer in model.layers):
        if (kernel := getattr(layer, "kernel", None)) is not None:
            *places, _ = layer.output.shape[1:]
            shared = (kernel.shape, layer.input.shape, hashlib.sha256(np.asarray(kernel).tobytes()).hexdigest())
            seen[shared] = 2 * float(np.prod(kernel.shape)) * float(np.prod(places))
    return sum(seen.values())


def variants() -> tuple[str, ...]:
    return tuple(bundle.manifest.variant for bundle in shipped())


def shipped(name: str = ALL) -> list[Bundle]:
    return [bundle for bundle in shipped_bundles() if name in (ALL, bundle.manifest.variant)]


def loaded(bundles: Sequence[Bundle], precision: str, batch_cells: int) -> Any:
    from bloodcell.inference.merged_network import MergedNetwork

    set_precision(precision)
    network = MergedNetwork(bundles, batch_cells=batch_cells)
    set_precision(precision)  # as bloodcell has set it, if it is float32
    if precision == "bfloat16":
        for layer in network.model.layers:
            if len(layer._inbound_nodes[-1].outputs[0].shape) == 4:  # layers after the maps keep float32
                layer.dtype_policy = "mixed_bfloat16"
    return network


def set_precision(precision: str) -> None:
    os.environ |= PRECISIONS[precision]  # read when NVIDIA's libraries are loaded
    import keras

    from bloodcell.inference.keras_backend import exact_float32

    exact_float32()
    if precision == "float32":
        return
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(True)
    elif keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", None)


def has_gpu() -> bool:
    import keras

    return str(keras.distribution.list_devices()[0]).startswith("gpu")


def no_place() -> Place:
    return Place(Path(), platformdirs.user_cache_path("bloodcell") / "bench", "", quick=False)
