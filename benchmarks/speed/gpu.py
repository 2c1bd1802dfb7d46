"""The shipped models on an accelerator: forward pass, files to rows, and whether its calls equal those of a CPU.

    python -m benchmarks.speed.gpu [--cells 16384] [--results FILE] [--outputs FILE] [--quick]

Runs on the machine with the GPU, with TensorFlow or with KERAS_BACKEND=jax (which does not train), and takes ten
minutes. Writes GPU.md beside this file.
`--outputs FILE` compares the models' outputs for real cells with those of another machine. If FILE does not exist yet,
it is written and nothing is measured.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from benchmarks.speed.classifying import seconds_per_cell
from benchmarks.speed.gpu_networks import (
    ALL,
    forward_passes,
    loaded,
    no_place,
    set_precision,
    shipped,
    the_same_calls,
    variants,
    write_outputs,
)
from benchmarks.speed.line import markdown_table, shown
from benchmarks.speed.material import cell_images, distinct, write_bodies
from benchmarks.speed.place import Place, apart, measuring_place
from bloodcell.evaluation.model_speed import decoded_per_s
from bloodcell.ingest import ingest_night
from bloodcell.registry.recipes import Recipe, Tuning, base_of, default_recipe
from bloodcell.registry.registered_models import register
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.runs import code_version
from bloodcell.storage.store import Store

RESULTS = Path(__file__).parent / "GPU.md"
TEMPLATE = "gpu"
Precision = Literal["float32", "mixed_bfloat16"]
PRECISIONS_OF_TRAINING: tuple[Precision, ...] = ("float32", "mixed_bfloat16")
BATCHES, QUICK_BATCHES = (32, 128, 256), (2, 4)


def main() -> int:
    """Measures, prints and writes; returns the exit status, which is 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cells", type=int, default=16_384, help="cells of the night that is classified")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--outputs", type=Path, help="outputs of the models on another machine, to compare with")
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
        yield "Calls compared with those of a CPU", lambda: the_same_calls(chosen.outputs)
    yield "Forward pass", lambda: forward_passes(QUICK_BATCHES if quick else BATCHES, seconds)
    yield "Decoding", lambda: decoding(seconds)
    yield "Files to rows", lambda: files_to_rows(64 if quick else chosen.cells, quick=quick)
    yield "Memory that is too small", lambda: apart(little_memory, 64 if quick else 8192)
    yield "Training", lambda: fine_tuning(128 if quick else 1024, quick=quick)


def decoding(seconds: float) -> str:
    """Measures how many cells a second are read from memory, decoded and scaled, by threads and sizes."""
    sizes = {bundle.manifest.variant: bundle.input_size for bundle in shipped()}
    rows: list[tuple[str, ...]] = [("threads", "for VGG-16", "for InceptionV3", "for both")]
    both = [sizes["vgg16"], sizes["inception_v3"]]
    files = [path.read_bytes() for path in cell_images(no_place(), 256)]
    for n in sorted({1, 4, 8, os.cpu_count() or 1, 2 * (os.cpu_count() or 1)}):
        settings = Settings(reader_threads=n)
        speeds = (decoded_per_s(files, wanted, settings, seconds) for wanted in (both[:1], both[1:], both))
        rows.append((str(n), *(f"{speed:,.0f}" for speed in speeds)))
    return f"Cells a second, real files in memory to pixels; {os.cpu_count()} cores.\n\n{markdown_table(rows)}"


def files_to_rows(n_cells: int, *, quick: bool) -> str:
    """Measures `classify_shard` on a night of real files, each a little different."""
    threads = Settings().reader_threads
    wanted = [(name, threads) for name in ((ALL,) if quick else (*variants(), ALL))] + [(ALL, 2 * threads)]
    rows: list[tuple[str, ...]] = [("models", "reader threads", "cells/s, twice")]
    with measuring_place(quick=quick) as place:
        apart(_prepare, place, n_cells)
        for name, n in wanted:
            rows.append((name, str(n), shown(apart(_classified_per_s, place, name, n, 8 if quick else 128), digits=0)))
            print(rows[-1], flush=True)
    return (
        f"`classify_shard`, a night of {n_cells:,} cells, stored files to committed rows, loading and compiling left "
        f"out; Postgres on the same machine.\n\n{markdown_table(rows)}"
    )


def _prepare(place: Place, n_cells: int) -> None:
    settings = place.template(TEMPLATE)
    files = cell_images(place, min(n_cells, 512))
    bodies = ((f"SNE_{n:08d}.jpg", distinct(files[n % len(files)].read_bytes(), n)) for n in range(n_cells))
    ingest_night(write_bodies(settings.drops, bodies), settings)
    for bundle in shipped():
        with connect(str(settings.plain_database_url)).begin() as connection:
            register(connection, Store.of(settings), bundle, by="bench")


def _classified_per_s(place: Place, name: str, reader_threads: int, batch_cells: int) -> list[float]:
    set_precision("float32")
    changes = {"batch_cells": batch_cells, "reader_threads": reader_threads}
    settings = (place.fresh(TEMPLATE).model_copy(update=changes) for _ in range(2))
    return [1 / seconds_per_cell(each, shipped(name)) for each in settings]


def little_memory(batch_cells: int) -> str:
    """Runs a batch that is too large for a share of the device's memory."""
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.05"}
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=4096)])
    bundles = shipped()
    network = loaded(bundles, "float32", 32)
    rng = np.random.default_rng(0)
    cells = {size: rng.integers(0, 256, (batch_cells, *size.shape), np.uint8) for size in network.input_sizes}
    expected = network({size: of_size[:64] for size, of_size in cells.items()})
    network.batch_cells = batch_cells
    received = network(cells)
    apart_by = max(
        np.abs(expected[bundle.model_id].probabilities - received[bundle.model_id].probabilities[:64]).max()
        for bundle in bundles
    )
    return (
        f"A batch of {batch_cells:,} cells through all four models in a twentieth of the memory: continued with "
        f"{network.batch_cells:,}; {len(received[bundles[0].model_id].probabilities):,} cells called, the largest "
        f"difference of a probability from batches of 32 is {apart_by:.1e}."
    )


def fine_tuning(n_images: int, *, quick: bool) -> str:
    """Measures the fine-tuned variants' deep stage, with pixels that the CPU augments."""
    rows: list[tuple[str, ...]] = [("variant", "precision", "images/s, the epochs after the first")]
    for variant in ("vgg16", "inception_v3"):
        for precision in PRECISIONS_OF_TRAINING:
            speeds = apart(_trained_per_s, variant, precision, n_images, quick)
            rows.append((variant, precision, shown(speeds, digits=0)))
            print(rows[-1], flush=True)
    return f"`train` with the default recipe on {n_images:,} images.\n\n{markdown_table(rows)}"


def _trained_per_s(variant: str, precision: Precision, n_images: int, quick: bool) -> list[float]:
    from bloodcell.training.bundle_training import train
    from tests.small_cells import random_weights

    recipe = _small_recipe(variant) if quick else default_recipe(variant)
    assert recipe.tuning is not None
    tuning = replace(recipe.tuning, deep_epochs=3, precision=precision)
    recipe = replace(recipe, tuning=tuning)
    times: list[tuple[str, float, int, int]] = []
    with TemporaryDirectory() as folder:
        for path in cell_images(no_place(), n_images):
            copied = Path(folder) / "images" / path.parent.name / path.name
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())
        train(
            variant, Path(folder) / "images", Settings(data_dir=Path(folder) / "data"), recipe=recipe,
            base=random_weights(base_of(variant)),
            on_progress=lambda step, done, total: times.append((step, time.perf_counter(), done, total)),
        )  # fmt: skip
    deep = [each for each in times if "deep" in each[0]] or times
    n_steps = deep[-1][3] // 3
    ends = [moment for _, moment, done, _ in deep if done and done % n_steps == 0]
    starts = [moment for _, moment, done, _ in deep if done % n_steps == 1]
    return [
        (n_steps - 1) * tuning.batch_cells / (end - start) for start, end in zip(starts[1:], ends[1:], strict=False)
    ]


def _small_recipe(variant: str) -> Recipe:
    """Returns a recipe that trains in a minute on two cores, and is of no use for real images."""
    side_px, layers = {"vgg16": (64, ("block3_pool", "block4_pool")), "inception_v3": (96, ("mixed2", "mixed3"))}[
        variant
    ]
    return Recipe(side_px, layers, tuning=Tuning(cut_layer=layers[0], transforms=1, deep_epochs=4))


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
        "# On a GPU\n\nWritten by `python -m benchmarks.speed.gpu`.\n\n"
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, bloodcell {code_version()}\n"
        f"- {gpu}; {os.cpu_count()} cores\n- Python {sys.version.split()[0]}, {versions}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
