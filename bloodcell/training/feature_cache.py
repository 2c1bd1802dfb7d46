"""Outputs of frozen layers, computed once for each image and kept on disk, for heads, deeper stages and SVMs.

The frozen part is nearly all of a network's cost (VGG-16 at 160 px: 6 images/s on two cores). An epoch that starts from
its cached maps is about ten times cheaper, the SVM variant of the same base network reuses them, and next week's
retraining computes them only for new images.

    <cache>/v<version>-<base>-<side>[-<crop>][-<colour>][-of-<field>]-<change>/<output>-<digest of its layers>/
        rows.bin        one row per image, appended
        images.txt      the images' digests, in the order of the rows
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.errors import ConfigurationError
from bloodcell.inference.batched_model import FeatureExtractor
from bloodcell.inference.merged_network import content_of
from bloodcell.inference.predicting import pixel_reader, predict_pixels
from bloodcell.registry.compact import halved
from bloodcell.training.colour import COLOURED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from bloodcell.cells.labelled_image import LabelledImage
    from bloodcell.settings import Settings
    from bloodcell.training.image_changes import Change

CACHE_VERSION: Final = 3  # increase it when decoding, resizing or a network's layers change
_CHUNK_BATCHES: Final = 4
_LINE_BYTES: Final = 65  # a sha256 and the line feed


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of some images, mapped from disk, so that only the rows in use are in memory.

    Attributes:
        mapped: All cached rows, (n cached, ...).
        places: int64 (n,), indices of these images' rows.
    """

    mapped: NDArray[Any]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, which: Any) -> NDArray[Any]:
        """Returns the rows of one of these images, or of a slice of them."""
        return np.asarray(self.mapped[self.places[which]])


def cached_outputs(
    network: keras.Model,
    outputs: Mapping[str, Any],
    images: Sequence[LabelledImage],
    *,
    read: Callable[[LabelledImage], bytes],
    change: Change,
    cache: Path,
    settings: Settings,
    on_image: Callable[[int, int], None],
    field_px: float | None = None,
) -> dict[str, Rows]:
    """Returns each output for all `images`, in their order, and computes only what is not cached yet.

    Args:
        network: Has the input `pixels`, uint8 (n, side, side, 3).
        outputs: Name -> tensor of the network. Vectors are stored as float32, maps as float16, pixels as uint8.
        images: In the order of the rows, each once.
        read: Returns an image's file.
        change: What is done to the images first.
        cache: Folder of all cached outputs.
        settings: Batch size, reader threads, image bounds.
        on_image: Called with the number of images done and of all images.
        field_px: Side of the middle of an image that the network sees; None: the whole image.

    Returns:
        Rows mapped from disk. They are saved every few batches, so that after a kill the same call resumes there.

    Raises:
        ConfigurationError: The disk is full.
    """
    field = "" if field_px is None else f"-of-{field_px:g}"
    folder = cache / f"v{CACHE_VERSION}-{network.name}-{_sides(network)}{field}-{change.name}"
    with alone(folder.with_name(f"{folder.name}.lock")):
        shelves = {
            name: _Shelf(folder / f"{name}-{_layers_digest(network, tensor)}", tensor)
            for name, tensor in outputs.items()
        }
        wanted = {image.sha256 for image in images}
        open_shelves = {name: shelf for name, shelf in shelves.items() if not wanted <= shelf.places.keys()}
        if open_shelves:
            _extend(network, {name: outputs[name] for name in open_shelves}, open_shelves, images, read, change,
                    settings, on_image, field_px)  # fmt: skip
    return {name: shelf.rows(images) for name, shelf in shelves.items()}


def forget_features(cache: Path, images: Collection[str]) -> int:
    """Removes every folder of rows that has a row of one of these images, and returns how many there were.

    The next training computes the rows of the other images again. A training that is running keeps its own.

    Args:
        cache: Folder of all cached outputs.
        images: Digests of the images.
    """
    n = 0
    for listing in sorted(cache.glob("v*/*/images.txt")) if images else ():
        folder = listing.parent
        with alone(folder.parent.with_name(f"{folder.parent.name}.lock")):
            if listing.exists() and not set(listing.read_text().split()).isdisjoint(images):
                _remove(folder)
                n += 1
    return n


def remove_features(cache: Path, before: float, *, dry_run: bool = False) -> tuple[int, int]:
    """Removes every folder of rows that was neither read nor extended since then; returns how many, and their bytes.

    Args:
        cache: Folder of all cached outputs.
        before: In seconds since 1970.
        dry_run: Only count.
    """
    n, n_bytes = 0, 0
    for listing in sorted(cache.glob("v*/*/images.txt")):
        folder = listing.parent
        with alone(folder.parent.with_name(f"{folder.parent.name}.lock")):
            files = [path.stat() for path in (listing, folder / "rows.bin") if path.exists()]
            if max((max(file.st_mtime, file.st_atime) for file in files), default=before) < before:
                n, n_bytes = n + 1, n_bytes + sum(file.st_size for file in files)
                if not dry_run:
                    _remove(folder)
    return n, n_bytes


def _remove(folder: Path) -> None:
    (folder / "images.txt").unlink(missing_ok=True)  # first: rows without a list are truncated when one is added
    (folder / "rows.bin").unlink(missing_ok=True)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file inside the context, after waiting for it; a process that dies releases it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(slots=True)
class _Shelf:
    """The cached rows of one output."""

    folder: Path
    tensor: Any
    places: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self._list.exists():
            whole = self._list.stat().st_size // _LINE_BYTES * _LINE_BYTES  # a kill may have left part of a line
            digests = self._list.read_bytes()[:whole].decode().split()
            self.places = {digest: place for place, digest in enumerate(digests)}

    @property
    def dtype(self) -> type[np.generic]:
        if self.tensor.dtype == "uint8":
            return np.uint8
        return np.float16 if len(self.tensor.shape) == 4 else np.float32

    @property
    def row_shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape[1:])

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.row_shape)) * np.dtype(self.dtype).itemsize

    @property
    def data(self) -> Path:
        return self.folder / "rows.bin"

    @property
    def _list(self) -> Path:
        return self.folder / "images.txt"

    @contextmanager
    def appending(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Yields the files of rows and of digests, both truncated after the last complete row."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.data.open("ab") as rows, self._list.open("ab") as digests:
            rows.truncate(len(self.places) * self.row_bytes)
            digests.truncate(len(self.places) * _LINE_BYTES)
            yield rows, digests

    def rows(self, images: Sequence[LabelledImage]) -> Rows:
        """Returns the rows of `images`."""
        shape = (len(self.places), *self.row_shape)
        mapped = np.memmap(self.data, self.dtype, "r", shape=shape) if self.places else np.empty(shape, self.dtype)
        return Rows(mapped, np.array([self.places[image.sha256] for image in images], np.int64))


def _sides(network: keras.Model) -> str:
    """Returns the sides of the input and of the central part that the network sees, and what is done to its colours."""
    middle = [layer.output.shape[1] for layer in network.layers if layer.name == "middle"]
    colours = ["standardised" for layer in network.layers if layer.name == COLOURED]
    return "-".join(map(str, (network.input_shape[1], *middle, *colours)))


def _layers_digest(network: keras.Model, tensor: Any) -> str:
    """Returns the digest of the layers that `tensor` depends on: what they do, and their weights."""
    import keras

    digest = hashlib.sha256()
    for operation in keras.Model(network.inputs, tensor).operations:
        digest.update(content_of(operation).encode())
    return digest.hexdigest()[:32]


def _extend(
    network: keras.Model,
    outputs: Mapping[str, Any],
    shelves: Mapping[str, _Shelf],
    images: Sequence[LabelledImage],
    read: Callable[[LabelledImage], bytes],
    change: Change,
    settings: Settings,
    on_image: Callable[[int, int], None],
    field_px: float | None,
) -> None:
    import keras

    missing = [image for image in images if any(image.sha256 not in shelf.places for shelf in shelves.values())]
    n_done = len(images) - len(missing)
    extractor = FeatureExtractor(keras.Model(network.inputs, dict(outputs)), settings.batch_cells)
    [size] = extractor.input_sizes
    pixels_of = pixel_reader(read, [size._replace(field_px=field_px)], settings)
    try:
        with ExitStack() as stack:
            files = {name: stack.enter_context(shelf.appending()) for name, shelf in shelves.items()}
            kept: dict[str, list[str]] = {name: [] for name in shelves}
            batches = predict_pixels(
                extractor,
                missing,
                lambda image: [change(cell, image.sha256) for cell in pixels_of(image)],
                batch_cells=settings.batch_cells,
                n_threads=settings.reader_threads,
            )
            for n_batches, (batch, results) in enumerate(batches, start=1):
                n_done += len(batch)
                for name, shelf in shelves.items():
                    new = [i for i, image in enumerate(batch) if image.sha256 not in shelf.places]
                    files[name][0].write(_storable(results[name][new], shelf.dtype))
                    kept[name] += [batch[i].sha256 for i in new]
                if n_batches % _CHUNK_BATCHES == 0 or n_done == len(images):
                    for name, shelf in shelves.items():
                        _keep(*files[name], kept[name], shelf)
                        kept[name] = []
                on_image(n_done, len(images))
    except OSError as error:
        raise ConfigurationError(
            f"The features of {len(missing):,} images cannot be written to {next(iter(shelves.values())).folder}: "
            f"{error.strerror or error}. Free space, then start the same training again: it resumes."
        ) from error


def _storable(values: NDArray[Any], dtype: type[np.generic]) -> bytes:
    kept = halved(values) if dtype is np.float16 else values
    return np.ascontiguousarray(kept, dtype).tobytes()


def _keep(rows: IO[bytes], digests: IO[bytes], kept: Sequence[str], shelf: _Shelf) -> None:
    """Makes the rows durable before their digests, so that every digest has its row."""
    for file, content in ((rows, b""), (digests, "".join(f"{digest}\n" for digest in kept).encode())):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    for digest in kept:
        shelf.places[digest] = len(shelf.places)
