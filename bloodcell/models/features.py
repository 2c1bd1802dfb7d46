"""Outputs of the frozen layers, computed once an image and kept on disk: heads, deeper stages and SVMs start from them.

The frozen part is nearly all of a network's cost (VGG-16 at 160 px: 6 images/s on two cores), so an epoch that starts
from its cached maps is some ten times cheaper, and the SVM variant of the same base pays nothing again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.decoding import ImageLimits, decode, resized
from bloodcell.errors import ConfigurationError
from bloodcell.models.backend import jit_compile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from bloodcell.models.images import LabelledImage
    from bloodcell.settings import Settings

_CACHE_VERSION: Final = 1  # to be raised when decoding, resizing or a network's layers change
_CHUNK_BATCHES: Final = 4
_FLOAT16_MAX: Final = float(np.finfo(np.float16).max)


def cached_outputs(
    network: keras.Model,
    outputs: Mapping[str, Any],
    images: Sequence[LabelledImage],
    *,
    transform: int,
    weights_digest: str,
    cache: Path,
    settings: Settings,
    on_image: Callable[[int, int], None],
) -> dict[str, NDArray[Any]]:
    """Returns each output for all `images`, in their order, from the cache as far as it goes.

    Args:
        network: Has the input `pixels`, uint8 (n, side, side, 3).
        outputs: Name -> tensor of the network. Vectors are kept as float32, maps as float16.
        images: In the order of the rows.
        transform: Which of the eight flips and quarter turns the images are shown in, 0 = as they are.
        weights_digest: Identity of the frozen weights.
        cache: Folder of all cached outputs.
        settings: Batch size, reader threads, image limits.
        on_image: Called with images done and images in all.

    Returns:
        Read-only arrays mapped from disk. Work is kept every few batches: after a kill the same call goes on there.
    """
    import keras

    side_px = int(network.input_shape[1])
    folder = cache / _key(network.name, weights_digest, side_px, transform, images)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_suffix(".lock")):
        open_outputs = {name: tensor for name, tensor in outputs.items() if _rows_done(folder, name) < len(images)}
        if open_outputs and images:
            extractor = keras.Model(network.inputs, open_outputs)
            extractor.compile(jit_compile=jit_compile())
            _extend(extractor, open_outputs, images, transform, folder, settings, on_image)
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in outputs}


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Waits until nobody else is within `alone` of the same file; a process that ends, however it ends, frees it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def transformed(pixels: NDArray[np.uint8], transform: int) -> NDArray[np.uint8]:
    """Returns a square image (side, side, 3) turned by `transform % 4` quarters, mirrored from 4 on."""
    turned = np.rot90(pixels, transform % 4)
    return np.ascontiguousarray(turned[:, ::-1] if transform >= 4 else turned)


def padded(rows: NDArray[Any], n_rows: int) -> NDArray[Any]:
    """Returns `rows` with its last row repeated up to `n_rows`, so that one shape only is ever traced."""
    missing = n_rows - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def _key(base: str, weights_digest: str, side_px: int, transform: int, images: Sequence[LabelledImage]) -> str:
    identity = json.dumps(
        [_CACHE_VERSION, base, weights_digest, side_px, transform, [image.sha256 for image in images]]
    )
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _rows_done(folder: Path, name: str) -> int:
    done = folder / f"{name}.done"
    return int(done.read_text()) if done.exists() else 0


def _extend(
    extractor: keras.Model,
    outputs: Mapping[str, Any],
    images: Sequence[LabelledImage],
    transform: int,
    folder: Path,
    settings: Settings,
    on_image: Callable[[int, int], None],
) -> None:
    n_done = min(_rows_done(folder, name) for name in outputs)
    arrays = {name: _opened(folder, name, tensor, len(images)) for name, tensor in outputs.items()}
    batch_cells = settings.batch_cells
    side_px = int(extractor.input_shape[1])
    for n_batches, batch in enumerate(_batches(images[n_done:], batch_cells, side_px, transform, settings), start=1):
        results = extractor.predict_on_batch(padded(batch, batch_cells))
        for name, array in arrays.items():
            values = results[name][: len(batch)]
            if array.dtype == np.float16:
                values = np.clip(values, -_FLOAT16_MAX, _FLOAT16_MAX)
            array[n_done : n_done + len(batch)] = values
        n_done += len(batch)
        if n_batches % _CHUNK_BATCHES == 0 or n_done == len(images):
            for name, array in arrays.items():
                array.flush()
                _note_rows(folder, name, n_done)
        on_image(n_done, len(images))


def _opened(folder: Path, name: str, tensor: Any, n_rows: int) -> np.memmap[Any, np.dtype[Any]]:
    path = folder / f"{name}.npy"
    if _rows_done(folder, name):
        return np.lib.format.open_memmap(path, mode="r+")
    shape = (n_rows, *tensor.shape[1:])
    dtype = np.float16 if len(shape) == 4 else np.float32
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        with path.open("r+b") as file:  # a full disk says so here; once mapped, it would end the process
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink()
        raise ConfigurationError(
            f"The features of {n_rows:,} images cannot be kept in {folder} ({array.nbytes:,} bytes): {error.strerror}. "
            "Free space, then call the same again: it goes on there."
        ) from error
    return array


def _note_rows(folder: Path, name: str, n_rows: int) -> None:
    part = folder / f"{name}.done.part"
    part.write_text(str(n_rows))
    part.replace(folder / f"{name}.done")


def _batches(
    images: Sequence[LabelledImage], batch_cells: int, side_px: int, transform: int, settings: Settings
) -> Iterator[NDArray[np.uint8]]:
    """Decodes the next batch while the network works on this one."""
    limits = ImageLimits.of(settings)

    def pixels(image: LabelledImage) -> NDArray[np.uint8]:
        return transformed(resized(decode(image.path.read_bytes(), limits), side_px, side_px), transform)

    with ThreadPoolExecutor(settings.reader_threads) as readers:
        starts = range(0, len(images), batch_cells)
        ahead = [readers.submit(pixels, image) for image in images[:batch_cells]]
        for start in starts:
            current, following = ahead, images[start + batch_cells : start + 2 * batch_cells]
            ahead = [readers.submit(pixels, image) for image in following]
            yield np.stack([each.result() for each in current])
