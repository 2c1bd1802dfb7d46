"""Images become a network's outputs, batch by batch: the one loop of classify, evaluation, monitoring and training."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_output import ModelOutput, joined
from bloodcell.inference.read_ahead import read_ahead
from bloodcell.storage.decoding import ImageBounds, decode, resized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from bloodcell.cells.image_size import Size
    from bloodcell.inference.network import Network
    from bloodcell.inference.read_ahead import Skipped
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings

Image = TypeVar("Image")
Output = TypeVar("Output")


def predict(
    network: Network[Output],
    images: Iterable[Image],
    read: Callable[[Image], bytes],
    settings: Settings,
    skipped: Skipped | None = None,
) -> Iterator[tuple[list[Image], Output]]:
    """Yields batches of images, in their order, with the network's output for each batch.

    Each image is read and decoded only once, whatever the number of models and input sizes, and while the device works
    on earlier batches. Memory does not grow with the number of images.

    Args:
        network: The network to run.
        images: Any number of images that `read` can read.
        read: Returns an image's file; called in threads.
        settings: Batch size, reader threads and image bounds.
        skipped: Collects images that cannot be read; if None, the first of them raises its error.

    Raises:
        StoreUnavailableError: The store is unavailable; without `skipped`, also if an image cannot be read from it.
        UnusableFileError: Without `skipped`: a file is not a usable image.
    """
    return predict_pixels(
        network,
        images,
        pixel_reader(read, network.input_sizes, settings),
        batch_cells=settings.batch_cells,
        n_threads=settings.reader_threads,
        skipped=skipped,
    )


def predict_all(
    bundles: Sequence[Bundle],
    images: Sequence[Image],
    read: Callable[[Image], bytes],
    settings: Settings,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, ModelOutput]:
    """Returns model id -> its output for every image, all models in one pass.

    Args:
        bundles: Opened bundles, at least one.
        images: Any number.
        read: Returns an image's file; called in threads.
        settings: Batch size, reader threads and image bounds.
        on_progress: Called with the number of images done and of all images.

    Raises:
        BundleError: A bundle cannot be loaded.
        StoreUnavailableError: An image cannot be read.
        UnusableFileError: A file is not a usable image.
    """
    network = MergedNetwork(bundles, batch_cells=settings.batch_cells)
    # an empty batch first, so that no images at all still give arrays of the right shapes
    parts = [network({size: np.empty((0, *size.shape), np.uint8) for size in network.input_sizes})]
    n_done = 0
    for batch, outputs in predict(network, images, read, settings):
        parts.append(outputs)
        n_done += len(batch)
        if on_progress:
            on_progress(n_done, len(images))
    return {model_id: joined([part[model_id] for part in parts]) for model_id in network.model_ids}


def predict_pixels(
    network: Network[Output],
    images: Iterable[Image],
    pixels_of: Callable[[Image], Sequence[NDArray[np.uint8]]],
    *,
    batch_cells: int,
    n_threads: int,
    skipped: Skipped | None = None,
) -> Iterator[tuple[list[Image], Output]]:
    """Yields batches as `predict` does, for images whose pixels the caller provides.

    Args:
        network: The network to run.
        images: Any number.
        pixels_of: Returns an image's pixels in each of the network's input sizes: uint8 (height, width, 3), RGB;
            called in threads.
        batch_cells: Images per batch.
        n_threads: Threads that call `pixels_of`.
        skipped: As for `predict`.
    """
    for batch, pixels in read_ahead(_batched(images, batch_cells), pixels_of, n_threads, skipped):
        columns = zip(network.input_sizes, *pixels, strict=True)
        yield batch, network({size: np.stack(column) for size, *column in columns})


def pixel_reader(
    read: Callable[[Image], bytes], sizes: Sequence[Size], settings: Settings
) -> Callable[[Image], list[NDArray[np.uint8]]]:
    """Returns a function that reads an image, decodes it once, and returns its pixels in each of `sizes`."""
    bounds = ImageBounds.of(settings)

    def pixels_of(image: Image) -> list[NDArray[np.uint8]]:
        cell = decode(read(image), bounds)
        return [resized(cell, *size) for size in sizes]

    return pixels_of


def _batched(images: Iterable[Image], n: int) -> Iterator[list[Image]]:
    remaining = iter(images)
    while batch := list(islice(remaining, n)):
        yield batch
