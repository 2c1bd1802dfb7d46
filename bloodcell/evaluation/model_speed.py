"""Measures how many cells per second models classify on this machine, by batch size, and whether decoding keeps up."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.drawing.drops import save_cell
from bloodcell.inference.keras_backend import device
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.predicting import pixel_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bloodcell.cells.image_size import Size
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings

BATCH_SIZES: Final = (8, 16, 32, 64, 128, 256)
NEARLY_BEST: Final = 0.97
"""Share of the best speed: the smallest batch that reaches it is proposed, because larger batches need more memory."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured.

    Attributes:
        device: What the models ran on.
        decoded_per_s: Cells per second that all reader threads together decode and resize to every input size.
        called_per_s: Batch size -> cells per second through all the models, from pixels in memory to probabilities.
        no_memory_for: The batch size for which the device lacked memory; None if all batches fitted.
    """

    device: str
    decoded_per_s: float
    called_per_s: dict[int, float]
    no_memory_for: int | None

    @property
    def proposed(self) -> int:
        """The smallest batch that is nearly as fast as the fastest."""
        fast_enough = NEARLY_BEST * max(self.called_per_s.values())
        return min(n for n, speed in self.called_per_s.items() if speed >= fast_enough)


def measure_speed(
    bundles: Sequence[Bundle],
    settings: Settings,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 5.0,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Speed:
    """Returns how fast the models run when merged into one network, as `classify` runs them, on drawn cells.

    Args:
        bundles: At least one.
        settings: Reader threads and image bounds.
        batch_sizes: Batch sizes to try, ascending.
        seconds: Minimum time for each size. Each gets at least three batches, after a first one that is not timed.
        on_progress: Called with the step's name, the amount done, and the total.

    Raises:
        BundleError: A model cannot be loaded safely.
    """
    network, rng = MergedNetwork(bundles), np.random.default_rng(0)
    files = [_file(cell_class, seed) for seed in range(4) for cell_class in CELL_CLASSES]
    decoded = decoded_per_s(files, network.input_sizes, settings, seconds)
    called: dict[int, float] = {}
    refused = None
    for number, n in enumerate(batch_sizes):
        network.batch_cells = n
        batch = {size: rng.integers(0, 256, (n, *size.shape), np.uint8) for size in network.input_sizes}
        network(batch)
        if network.batch_cells < n:
            refused = n
            break
        n_batches, started = 0, time.perf_counter()
        while n_batches < 3 or time.perf_counter() - started < seconds:
            network(batch)
            n_batches += 1
        called[n] = n * n_batches / (time.perf_counter() - started)
        if on_progress:
            on_progress("Batch sizes", number + 1, len(batch_sizes))
    return Speed(device(), decoded, called, refused)


def decoded_per_s(files: Sequence[bytes], sizes: Sequence[Size], settings: Settings, seconds: float) -> float:
    """Returns how many cells per second the reader threads decode and resize to every one of `sizes`.

    Args:
        files: Cell images as files, read repeatedly.
        sizes: The sizes.
        settings: Reader threads and image bounds.
        seconds: Minimum time; all files are read at least once.
    """
    pixels_of = pixel_reader(bytes, sizes, settings)
    with ThreadPoolExecutor(settings.reader_threads) as threads:
        n_cells, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            n_cells += len(list(threads.map(pixels_of, files)))
        return n_cells / (time.perf_counter() - started)


def _file(cell_class: str, seed: int) -> bytes:
    file = io.BytesIO()
    save_cell(cell_class, np.random.default_rng(seed), file)
    return file.getvalue()
