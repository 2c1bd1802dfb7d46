"""A saved Keras model in half its bytes, without losing one bit.

Kernels are float16's values already (`networks.round_kernels`), kept as float32: they go into the file as float16, and
Keras widens them again while it loads. All other weights stay as they are.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

_WEIGHTS: Final = "model.weights.h5"


def write_compact(saved: Path, compact: Path) -> None:
    """Writes the `.keras` file `saved` as `compact`: every array that float16 holds without loss is kept as float16."""
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(compact, "w", zipfile.ZIP_STORED) as halved:
        for info in archive.infolist():
            body = archive.read(info)
            halved.writestr(info, _halved(body) if info.filename == _WEIGHTS else body)


def _halved(body: bytes) -> bytes:
    import h5py

    halved = io.BytesIO()
    with h5py.File(io.BytesIO(body), "r") as wide, h5py.File(halved, "w") as narrow:
        narrow.attrs.update(wide.attrs)

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                copied = narrow.require_group(name)
            else:
                values = item[()]
                copied = narrow.create_dataset(name, data=_narrowed(values))
            copied.attrs.update(item.attrs)

        wide.visititems(copy)
    return halved.getvalue()


def _narrowed(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    return narrow if values.dtype == np.float32 and np.array_equal(narrow.astype(np.float32), values) else values
