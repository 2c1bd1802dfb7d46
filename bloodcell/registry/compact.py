"""Writes a saved model in less than half its bytes, without any loss.

A model consists almost entirely of matrices, which `rounded` rounds to float16's values before anything is measured
with them. The file keeps them as compressed float16, and Keras converts them back to float32 when it loads them. All
other weights stay as they are.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

_FLOAT16_MAX: Final = float(np.finfo(np.float16).max)
_WEIGHTS: Final = "model.weights.h5"


def halved(values: ArrayLike) -> NDArray[np.float16]:
    """Returns the nearest float16 of each value; values beyond float16's range become its largest."""
    return np.clip(values, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)


def rounded(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the nearest values that float16 can hold, in the same dtype; a bundle needs two bytes for each."""
    return halved(values).astype(values.dtype)


def write_compact(saved: Path, compact: Path) -> None:
    """Writes the `.keras` file `saved` as `compact`, with every array in float16 that float16 can hold without loss."""
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(compact, "w", zipfile.ZIP_STORED) as compacted:
        for info in archive.infolist():
            body = archive.read(info)
            compacted.writestr(info, _compacted(body) if info.filename == _WEIGHTS else body)


def _compacted(body: bytes) -> bytes:
    import h5py

    compacted = io.BytesIO()
    with h5py.File(io.BytesIO(body), "r") as wide, h5py.File(compacted, "w") as narrow:
        narrow.attrs.update(wide.attrs)

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                copied = narrow.require_group(name)
            else:
                values = item[()]
                filters = {"compression": "gzip", "shuffle": True} if values.ndim else {}
                copied = narrow.create_dataset(name, data=_narrowed(values), **filters)
            copied.attrs.update(item.attrs)

        wide.visititems(copy)
    return compacted.getvalue()


def _narrowed(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    return narrow if values.dtype == np.float32 and np.array_equal(narrow.astype(np.float32), values) else values
