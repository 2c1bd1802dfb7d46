"""The shipped models on an accelerator: forward pass, files to rows, and whether its calls are those of a processor.

    python -m tests.bench.gpu [--cells 16384] [--results FILE] [--outputs FILE] [--quick]

On the machine with the GPU, with any of Keras' backends (KERAS_BACKEND); ten minutes. Writes GPU.md beside this.
`--outputs FILE` compares what the models say of real cells with what they said on another machine: where FILE is not
there yet, it is written and nothing is measured.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import numpy as np
import platformdirs

from bloodcell.classify import classify_shard, plan_shards
from bloodcell.database.engine import connect
from bloodcell.database.runs import code_version
from bloodcell.decoding import ImageLimits, decode, resized
from bloodcell.ingest import ingest_night
from bloodcell.models.bundle import Bundle, load_model
from bloodcell.models.registry import register
from bloodcell.models.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.store import Store
from tests.bench.line import shown
from tests.bench.material import cell_images, distinct, write_bodies
from tests.bench.place import Place, apart, measuring_place

RESULTS = Path(__file__).parent / "GPU.md"
TEMPLATE = "gpu"
BATCHES, QUICK_BATCHES = (32, 128, 256), (2, 4)
PRECISIONS: dict[str, dict[str, str]] = {
    "float32": {},  # as bloodcell sets it
    "float32 in NVIDIA's libraries": {},  # not in the kernels that XLA writes itself
    "tf32": {"NVIDIA_TF32_OVERRIDE": "1"},
    "bfloat16": {},
}
ALL = "all four"
MATRIX = 8192


def main() -> int:
    """Measures, prints and writes; returns the exit status: 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cells", type=int, default=16_384, help="of the night that is classified")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--outputs", type=Path, help="what the models say of cells, to compare with")
    parser.add_argument(
        "--only", action="append", metavar="PART", help="Calls, Forward, Decoding, Files, Memory, Training"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything runs")
    chosen = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes compile at once
    os.environ.setdefault("JAX_ENABLE_X64", "1")  # an SVM's last sums are float64
    if chosen.outputs and not chosen.outputs.exists():
        apart(write_outputs, chosen.outputs, 16 if chosen.quick else 1000)
        print(f"Written: {chosen.outputs}. Next: the same command, with this file, on the machine to compare with.")
        return 0
    sections, failed = [], False
    for title, work in _parts(chosen):
        if chosen.only and title.split()[0] not in chosen.only:
            continue
        started = time.monotonic()
        try:
            sections.append(f"## {title}\n\n{work()}\n")
        except Exception:
            sections.append(f"## {title}\n\nFailed.\n")
            failed = True
            traceback.print_exc()
        print(f"{time.monotonic() - started:.0f} s\n{sections[-1]}", flush=True)
        if not chosen.quick:
            chosen.results.write_text("\n".join([_head(), *sections]))
    return int(failed)


def _parts(chosen: argparse.Namespace) -> Iterator[tuple[str, Callable[[], str]]]:
    quick, seconds = chosen.quick, 0.2 if chosen.quick else 2.0
    if chosen.outputs:
        yield "Calls of a processor, again", lambda: the_same_calls(chosen.outputs)
    yield "Forward pass", lambda: forward_passes(QUICK_BATCHES if quick else BATCHES, seconds)
    yield "Decoding", lambda: decoding(seconds)
    yield "Files to rows", lambda: files_to_rows(64 if quick else chosen.cells, quick=quick)
    yield "Memory that does not suffice", lambda: apart(little_memory, 64 if quick else 8192)
    yield "Training", lambda: fine_tuning(128 if quick else 1024, quick=quick)


# the same calls ---------------------------------------------------------------------------------------------------


def write_outputs(file: Path, n_cells: int) -> None:
    """Writes what the shipped models say of cells, and the cells themselves."""
    bodies = [path.read_bytes() for path in cell_images(_no_place(), n_cells)]
    said = _outputs_of(bodies, batch_cells=32)
    ends = np.cumsum([len(body) for body in bodies])
    np.savez_compressed(file, files=np.frombuffer(b"".join(bodies), np.uint8), ends=ends, **said)


def the_same_calls(file: Path) -> str:
    """Compares the shipped models' outputs, in each precision, with those in `file`."""
    rows = [("model", "precision", "calls that differ", "largest difference of a probability", "of novelty, relative")]
    with ThreadPoolExecutor(len(PRECISIONS)) as threads:
        for precision, found in zip(
            PRECISIONS, threads.map(lambda each: apart(_compared, file, each), PRECISIONS), strict=True
        ):
            rows += [(model, precision, *figures) for model, figures in found.items()]
    return _table(rows)


def _compared(file: Path, precision: str) -> dict[str, tuple[str, ...]]:
    from bloodcell.calls import decide

    bodies, expected = read_outputs(file)
    received = _outputs_of(bodies, batch_cells=128, precision=precision)
    found = {}
    for bundle in _bundles():
        manifest, name = bundle.manifest, bundle.manifest.variant
        a, b = ((said[f"{name}.p"], said[f"{name}.novelty"]) for said in (expected, received))
        limits = (manifest.confidence_threshold, manifest.novelty_threshold)
        one, other = (decide(*of, confidence_threshold=limits[0], novelty_threshold=limits[1]).called for of in (a, b))
        differ = np.asarray(one) != np.asarray(other)
        found[name] = (
            f"{np.count_nonzero(differ)} of {len(differ):,}",
            f"{np.abs(a[0] - b[0]).max():.1e}",
            f"{(np.abs(a[1] - b[1]) / np.abs(a[1])).max():.1e}",
        )
    return found


def read_outputs(file: Path) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """Returns the cells' files, and what the models said of them."""
    with np.load(file, allow_pickle=False) as stored:
        said = {name: stored[name] for name in stored.files}
    parts = np.split(said.pop("files"), said.pop("ends")[:-1])
    return [part.tobytes() for part in parts], said


def _outputs_of(bodies: Sequence[bytes], *, batch_cells: int, precision: str = "float32") -> dict[str, np.ndarray]:
    bundles = _bundles()
    network = _network(bundles, precision, batch_cells)
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
    limits = ImageLimits.of(Settings())
    images = [decode(body, limits) for body in bodies]
    return {size: np.stack([resized(image, *size) for image in images]) for size in sizes}


# forward pass -----------------------------------------------------------------------------------------------------


def forward_passes(batches: Sequence[int], seconds: float) -> str:
    """Measures every variant by batch and precision, pixels in memory to probabilities in memory."""
    names = (*_variants(), ALL)
    found = _compiled_together([(name, "float32", tuple(batches)) for name in names], seconds)
    for precision in ("bfloat16", "tf32"):  # more at once do not find the memory to be tuned in
        found |= _compiled_together([(name, precision, (batches[1],)) for name in names], seconds)
    rates = {precision: speeds.matrix for (name, precision), speeds in found.items() if name == ALL}
    rows = [("model", "precision", "GFLOP a cell", *(f"{n} cells" for n in batches), "of the matrix rate")]
    for (name, precision), speeds in found.items():
        cells = [f"{speeds.per_s[n]:,.0f}" if n in speeds.per_s else "" for n in batches]
        share = max(speeds.per_s.values()) * speeds.flop / rates[precision]
        rows.append((name, precision, f"{speeds.flop / 1e9:.2f}", *cells, f"{share:.0%}"))
    matrix = ", ".join(f"{precision} {rate / 1e12:,.0f} TFLOP/s" for precision, rate in rates.items())
    return (
        f"Cells a second by the cells of a batch, pixels in memory to probabilities in memory. Product of two "
        f"{MATRIX:,} x {MATRIX:,} matrices: {matrix}.\n\n{_table(rows)}"
    )


@dataclass(frozen=True, slots=True)
class Speeds:
    """Cells a second by the size of a batch, operations a cell, operations a second of a product of matrices."""

    per_s: dict[int, float]
    flop: float
    matrix: float


def _compiled_together(
    wanted: Sequence[tuple[str, str, Sequence[int]]], seconds: float
) -> dict[tuple[str, str], Speeds]:
    """Each in a process of its own: they compile beside one another, and are measured one after the other."""
    with NamedTemporaryFile() as lock, ThreadPoolExecutor(len(wanted)) as threads:
        futures = {each[:2]: threads.submit(apart, _speeds, *each, seconds, Path(lock.name)) for each in wanted}
        return {each: future.result() for each, future in futures.items()}


def _speeds(name: str, precision: str, batches: Sequence[int], seconds: float, lock: Path) -> Speeds:
    rng, found = np.random.default_rng(0), {}
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        network = _network(_bundles(name), precision, 1)
        flop = operations([load_model(bundle) for bundle in _bundles(name)])
        given = {
            n: {size: rng.integers(0, 256, (n, *size, 3), np.uint8) for size in network.input_sizes} for n in batches
        }
        for n in batches:
            network.batch_cells = n
            network(given[n])
        fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(2)  # the others take theirs before one asks to be alone
        fcntl.flock(file, fcntl.LOCK_EX)
        for n in batches:
            network.batch_cells, n_done = n, 0
            network(given[n])
            if network.batch_cells < n:
                continue  # no memory for so many
            started = time.perf_counter()
            while n_done < 3 or time.perf_counter() - started < seconds:
                network(given[n])
                n_done += 1
            found[n] = n * n_done / (time.perf_counter() - started)
        return Speeds(found, flop, matrix_rate(precision) if name == ALL else 0.0)


def matrix_rate(precision: str) -> float:
    """Returns the operations a second of a product of two matrices."""
    import keras

    _set_precision(precision)
    side = MATRIX if _has_gpu() else 512
    matrix = keras.random.normal((side, side), dtype="bfloat16" if precision == "bfloat16" else "float32")

    def run(n: int) -> float:
        product, started = matrix, time.perf_counter()
        for _ in range(n):
            product = keras.ops.matmul(matrix, product) * (1 / side**0.5)
        keras.ops.convert_to_numpy(product[0, 0])
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


# decoding, files to rows --------------------------------------------------------------------------------------------


def decoding(seconds: float) -> str:
    """Measures how many cells a second are read from memory, decoded and scaled, by threads and sizes."""
    sizes = {bundle.manifest.variant: bundle.input_size for bundle in _bundles()}
    rows = [("threads", "for VGG-16", "for InceptionV3", "for both")]
    for n in sorted({1, 4, 8, os.cpu_count() or 1, 2 * (os.cpu_count() or 1)}):
        both = [sizes["vgg16"], sizes["inception_v3"]]
        rows.append((str(n), *(f"{_decoded_per_s(s, n, seconds):,.0f}" for s in (both[:1], both[1:], both))))
    return f"Cells a second, real files in memory to pixels; {os.cpu_count()} cores.\n\n{_table(rows)}"


def _decoded_per_s(sizes: Sequence[tuple[int, int]], n_threads: int, seconds: float) -> float:
    bodies = [path.read_bytes() for path in cell_images(_no_place(), 256)]
    limits, n_done, started = ImageLimits.of(Settings()), 0, time.perf_counter()

    def read(body: bytes) -> None:
        image = decode(body, limits)
        for size in sizes:
            resized(image, *size)

    with ThreadPoolExecutor(n_threads) as threads:
        while time.perf_counter() - started < seconds:
            n_done += len(list(threads.map(read, bodies)))
        return n_done / (time.perf_counter() - started)


def files_to_rows(n_cells: int, *, quick: bool) -> str:
    """Measures `classify_shard` on a night of real files, each a little different."""
    threads = Settings().reader_threads
    wanted = [(name, threads) for name in ((ALL,) if quick else (*_variants(), ALL))] + [(ALL, 2 * threads)]
    rows = [("models", "reader threads", "cells/s, twice")]
    with measuring_place(quick=quick) as place:
        apart(_prepare, place, n_cells)
        for name, n in wanted:
            rows.append((name, str(n), shown(apart(_classified_per_s, place, name, n, 8 if quick else 128), digits=0)))
            print(rows[-1], flush=True)
    return (
        f"`classify_shard`, a night of {n_cells:,} cells, stored files to committed rows, loading and compiling left "
        f"out; Postgres on the same machine.\n\n{_table(rows)}"
    )


def _prepare(place: Place, n_cells: int) -> None:
    settings = place.template(TEMPLATE)
    files = cell_images(place, min(n_cells, 512))
    bodies = ((f"SNE_{n:08d}.jpg", distinct(files[n % len(files)].read_bytes(), n)) for n in range(n_cells))
    ingest_night(write_bodies(settings.drops, bodies), settings)
    for bundle in _bundles():
        with connect(str(settings.database_url)).begin() as connection:
            register(connection, Store.of(settings), bundle, by="bench")


def _classified_per_s(place: Place, name: str, reader_threads: int, batch_cells: int) -> list[float]:
    _set_precision("float32")
    speeds = []
    for _ in range(2):
        changes = {"batch_cells": batch_cells, "reader_threads": reader_threads, "shard_cells": 10**6}
        settings = place.fresh(TEMPLATE).model_copy(update=changes)
        (shard,) = plan_shards(settings, model_ids=[bundle.model_id for bundle in _bundles(name)])
        ends: list[tuple[float, int]] = []

        def note(n: int, ends: list[tuple[float, int]] = ends) -> None:
            ends.append((time.perf_counter(), n))

        summary = classify_shard(shard, settings, on_cells=note)
        started, n_first = ends[0]
        speeds.append((summary.n_cells - n_first) / (time.perf_counter() - started))
    return speeds


# memory, training ---------------------------------------------------------------------------------------------------


def little_memory(batch_cells: int) -> str:
    """Runs a batch that a share of the device's memory does not suffice for."""
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.05"}
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=4096)])
    if keras.backend.backend() == "torch" and _has_gpu():
        import torch

        torch.cuda.set_per_process_memory_fraction(0.05)
    bundles = _bundles()
    network = _network(bundles, "float32", 32)
    rng = np.random.default_rng(0)
    cells = {size: rng.integers(0, 256, (batch_cells, *size, 3), np.uint8) for size in network.input_sizes}
    expected = network({size: of_size[:64] for size, of_size in cells.items()})
    network.batch_cells = batch_cells
    received = network(cells)
    apart_by = max(
        np.abs(expected[bundle.model_id].probabilities - received[bundle.model_id].probabilities[:64]).max()
        for bundle in bundles
    )
    return (
        f"A batch of {batch_cells:,} cells through all four models in a twentieth of the memory: went on with "
        f"{network.batch_cells:,}; {len(received[bundles[0].model_id].probabilities):,} cells called, the largest "
        f"difference of a probability from batches of 32 is {apart_by:.1e}."
    )


def fine_tuning(n_images: int, *, quick: bool) -> str:
    """Measures the fine-tuned variants' deep stage, pixels augmented by the processor."""
    rows = [("variant", "precision", "images/s, the epochs after the first")]
    for variant in ("vgg16", "inception_v3"):
        for precision in ("float32", "mixed_bfloat16"):
            speeds = apart(_trained_per_s, variant, precision, n_images, quick)
            rows.append((variant, precision, shown(speeds, digits=0)))
            print(rows[-1], flush=True)
    return f"`train` with the default recipe on {n_images:,} images.\n\n{_table(rows)}"


def _trained_per_s(variant: str, precision: str, n_images: int, quick: bool) -> list[float]:
    from bloodcell.models.recipes import DEMO_RECIPES, default_recipe
    from bloodcell.models.training import train

    recipe = DEMO_RECIPES[variant] if quick else default_recipe(variant)
    assert recipe.tuning is not None
    recipe = replace(recipe, tuning=replace(recipe.tuning, deep_epochs=3, precision=precision))
    times: list[tuple[str, float, int, int]] = []
    with TemporaryDirectory() as folder:
        for path in cell_images(_no_place(), n_images):
            copied = Path(folder) / "images" / path.parent.name / path.name
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())
        train(
            variant, Path(folder) / "images", Settings(data_dir=Path(folder) / "data"), recipe=recipe, base="random",
            on_progress=lambda step, done, total: times.append((step, time.perf_counter(), done, total)),
        )  # fmt: skip
    deep = [each for each in times if "deep" in each[0]] or times
    n_steps = deep[-1][3] // 3
    ends = [moment for _, moment, done, _ in deep if done and done % n_steps == 0]
    starts = [moment for _, moment, done, _ in deep if done % n_steps == 1]
    return [
        (n_steps - 1) * recipe.tuning.batch_cells / (end - start)
        for start, end in zip(starts[1:], ends[1:], strict=False)
    ]


# what they share ----------------------------------------------------------------------------------------------------


def _variants() -> tuple[str, ...]:
    return tuple(bundle.manifest.variant for bundle in _bundles())


def _bundles(name: str = ALL) -> list[Bundle]:
    return [bundle for bundle in shipped_bundles() if name in (ALL, bundle.manifest.variant)]


def _network(bundles: Sequence[Bundle], precision: str, batch_cells: int) -> Any:
    from bloodcell.models.merged import MergedNetwork

    _set_precision(precision)
    network = MergedNetwork(bundles, batch_cells=batch_cells)
    _set_precision(precision)  # as bloodcell has set it, if it is float32
    if precision == "bfloat16":
        for layer in network.model.layers:
            if len(layer._inbound_nodes[-1].outputs[0].shape) == 4:  # what comes after the maps stays as it is
                layer.dtype_policy = "mixed_bfloat16"
    return network


def _set_precision(precision: str) -> None:
    os.environ |= PRECISIONS[precision]  # read when NVIDIA's libraries are loaded
    import keras

    from bloodcell.models.backend import exact_float32

    exact_float32()
    if precision == "float32":
        return
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(True)
    elif keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", None)


def _has_gpu() -> bool:
    import keras

    return str(keras.distribution.list_devices()[0]).startswith("gpu")


def _no_place() -> Place:
    return Place(Path(), platformdirs.user_cache_path("bloodcell") / "bench", "", quick=False)


def _head() -> str:
    nvidia = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(nvidia, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        gpu = "no GPU"
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    names = [backend, "keras", "numpy", "pillow"]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        "# On a GPU\n\nWritten by `python -m tests.bench.gpu`.\n\n"
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, bloodcell {code_version()}\n"
        f"- {gpu}; {os.cpu_count()} cores\n- Python {sys.version.split()[0]}, {versions}\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
