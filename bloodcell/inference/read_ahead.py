"""Batches of pixels, read and decoded in parallel, ahead of the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bloodcell.errors import StoreUnavailableError, UnusableFileError
from bloodcell.storage.decoding import ImageLimits, decode, resized

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bloodcell.cells.labelled_image import LabelledImage
    from bloodcell.storage.store import Store

# batches decoded ahead of the one on the device: two cover a slow read, more would only hold memory
_AHEAD = 2
_FAILURES_IN_A_ROW = 20

Size = tuple[int, int]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class CellImage:
    """A cell and where its image is."""

    cell_id: int
    night: date
    sha256: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Cells and their pixels: size (height, width) -> uint8 (n, height, width, 3), RGB."""

    cells: Sequence[CellImage]
    images: dict[Size, NDArray[np.uint8]]


class BatchReader:
    """Reads batches; each image is decoded once and resized once for every input size.

    Attributes:
        failures: Why cells are missing from the batches; the others go on, the caller raises at the end.
    """

    def __init__(self, store: Store, limits: ImageLimits, sizes: Sequence[Size], n_threads: int) -> None:
        self._store, self._limits, self._sizes, self._n_threads = store, limits, sizes, n_threads
        self.failures: list[str] = []
        self._in_a_row = 0

    def batches(self, groups: Iterator[Sequence[CellImage]]) -> Iterator[Batch]:
        """Yields a batch for every group of cells.

        Raises:
            StoreUnavailableError: The store itself is away, asked for after so many failures in a row.
        """
        with ThreadPoolExecutor(self._n_threads, thread_name_prefix="decode") as threads:
            ahead: deque[tuple[Sequence[CellImage], list[Future[list[NDArray[np.uint8]]]]]] = deque()
            try:
                for group in groups:
                    ahead.append((group, [threads.submit(self._pixels, cell) for cell in group]))
                    if len(ahead) > _AHEAD:
                        yield from self._gathered(*ahead.popleft())
                while ahead:
                    yield from self._gathered(*ahead.popleft())
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _pixels(self, cell: CellImage) -> list[NDArray[np.uint8]]:
        image = decode(self._store.read_image(cell.sha256), self._limits)
        return [resized(image, height, width) for height, width in self._sizes]

    def _gathered(
        self, group: Sequence[CellImage], reading: Sequence[Future[list[NDArray[np.uint8]]]]
    ) -> Iterator[Batch]:
        cells, pixels = [], []
        for cell, future in zip(group, reading, strict=True):
            try:
                pixels.append(future.result())
                cells.append(cell)
                self._in_a_row = 0
            except (StoreUnavailableError, UnusableFileError) as error:
                self.failures.append(f"cell {cell.cell_id}: {error}")
                self._in_a_row += 1
        if self._in_a_row > _FAILURES_IN_A_ROW:
            self._store.check()
            self._in_a_row = 0
        if cells:
            yield Batch(cells, {size: np.stack(column) for size, *column in zip(self._sizes, *pixels, strict=True)})


def done_ahead(
    images: Sequence[LabelledImage], n_batch: int, n_threads: int, work: Callable[[LabelledImage], Result]
) -> Iterator[tuple[Sequence[LabelledImage], list[Result]]]:
    """Yields batches of images with what `work` makes of each; the next batch is worked on while this one is used."""
    with ThreadPoolExecutor(n_threads) as threads:
        ahead = [threads.submit(work, image) for image in images[:n_batch]]
        for start in range(0, len(images), n_batch):
            current, following = ahead, images[start + n_batch : start + 2 * n_batch]
            ahead = [threads.submit(work, image) for image in following]
            yield images[start : start + n_batch], [each.result() for each in current]
