"""A model's outputs on its validation images, with which its later nights are compared.

A bundle keeps them in the file `reference.npz`. It is small and contains no image, and the same images and model give
the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

REFERENCE: Final = "reference.npz"
MAX_CELLS: Final = 512
MAX_DIMS: Final = 4096

_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "embedding": np.dtype("<f4"),
    "top": np.dtype("<i8"),
    "confidence": np.dtype("<f4"),
    "novelty": np.dtype("<f4"),
    "class_counts": np.dtype("<i8"),
    "follows_mix": np.dtype("|b1"),
}
_MAX_BYTES: Final = 2 * MAX_CELLS * MAX_DIMS * 4


@dataclass(frozen=True, slots=True)
class TrainingReference:
    """A model's outputs on at most `MAX_CELLS` validation images, with the classes as balanced as the images allow.

    They are balanced so that even a rare class can be compared; a comparison weights them by `top`.

    Attributes:
        embedding: float32 (n, d).
        top: int64 (n,), index into `CELL_CLASSES` of the most probable class.
        confidence: float32 (n,), probability of that class, in 0..1.
        novelty: float32 (n,), 0 or more.
        class_counts: int64 (8,), all validation images by the class that a person assigned, in the order of
            `CELL_CLASSES`.
        follows_mix: True if the images are a laboratory's own labelled nights, so that the class mix of later nights
            can be compared with `class_counts`; False for a folder of images sorted by class.

    Raises:
        ValueError: An array has another shape or type, or values outside its range.
    """

    embedding: NDArray[np.float32]
    top: NDArray[np.int64]
    confidence: NDArray[np.float32]
    novelty: NDArray[np.float32]
    class_counts: NDArray[np.int64]
    follows_mix: bool

    def __post_init__(self) -> None:
        n_cells = len(self.embedding)
        shapes = {
            "embedding": (n_cells, self.embedding.shape[1] if self.embedding.ndim == 2 else -1),
            **dict.fromkeys(("top", "confidence", "novelty"), (n_cells,)),
            "class_counts": (len(CELL_CLASSES),),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != _TYPES[name]:
                raise ValueError(f"Expected {name} {_TYPES[name]} {shape}. Received: {array.dtype} {array.shape}")
        if not (0 < n_cells <= MAX_CELLS and 0 < self.embedding.shape[1] <= MAX_DIMS):
            raise ValueError(
                f"Expected 1 to {MAX_CELLS} cells of 1 to {MAX_DIMS} dimensions. Received: {self.embedding.shape}"
            )
        if wrong := [name for name, is_right in self._ranges().items() if not is_right]:
            raise ValueError(
                "Expected finite numbers, top a class, confidence in 0..1, novelty and counts of 0 or more. "
                f"Received others in: {', '.join(wrong)}"
            )

    def _ranges(self) -> dict[str, bool]:
        return {
            "embedding": bool(np.isfinite(self.embedding).all()),
            "top": bool(((self.top >= 0) & (self.top < len(CELL_CLASSES))).all()),
            "confidence": bool(((self.confidence >= 0) & (self.confidence <= 1)).all()),
            "novelty": bool((np.isfinite(self.novelty) & (self.novelty >= 0)).all()),
            "class_counts": bool((self.class_counts >= 0).all() and self.class_counts.sum() > 0),
        }


def reference_of(
    embedding: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    novelty: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    follows_mix: bool,
) -> TrainingReference:
    """Returns the reference of n validation images; the same images in the same order give the same reference.

    Args:
        embedding: (n, d), the model's embedding of the images.
        probabilities: (n, 8), calibrated, in the order of `CELL_CLASSES`.
        novelty: (n,).
        labels: (n,), index into `CELL_CLASSES` of the class that a person assigned.
        follows_mix: Whether the classes are mixed as in the laboratory's nights.
    """
    top = probabilities.argmax(axis=1).astype(np.int64)
    rank = np.empty(len(top), np.int64)  # of each image within its class
    for cell_class in range(len(CELL_CLASSES)):
        members = np.flatnonzero(top == cell_class)
        rank[members] = np.arange(len(members))
    chosen = np.sort(np.lexsort((top, rank))[:MAX_CELLS])
    return TrainingReference(
        embedding=np.asarray(embedding[chosen], np.float32),
        top=top[chosen],
        confidence=np.clip(probabilities[chosen].max(axis=1), 0, 1).astype(np.float32),
        novelty=np.asarray(novelty[chosen], np.float32),
        class_counts=np.bincount(labels, minlength=len(CELL_CLASSES)).astype(np.int64),
        follows_mix=follows_mix,
    )


def write_reference(path: Path, reference: TrainingReference) -> None:
    """Writes the reference as an .npz; the same reference gives the same bytes, on any day and machine."""
    arrays = {name: np.asarray(getattr(reference, name), kind, order="C") for name, kind in _TYPES.items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_reference(body: bytes, folder: Path) -> TrainingReference:
    """Returns the reference in a file, without executing code in it or using more memory than a reference needs.

    Args:
        body: The file, as `Bundle.read` returns it.
        folder: The bundle, which an error names.

    Raises:
        BundleError: The file is not a reference, or holds values that no model returns.
    """
    try:
        if len(body) > _MAX_BYTES:
            raise ValueError(f"expected at most {_MAX_BYTES:,} bytes, received {len(body):,}")
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if sorted(members) != sorted(f"{name}.npy" for name in _TYPES) or len(archive.infolist()) != len(members):
                raise ValueError(f"expected the arrays {sorted(_TYPES)}, received {sorted(members)}")
            arrays = {name: _array(archive, members[f"{name}.npy"], kind) for name, kind in _TYPES.items()}
        return TrainingReference(follows_mix=_flag(arrays.pop("follows_mix")), **arrays)
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"Model bundle refused: {folder / REFERENCE} is not a training reference: {error}. Restore the bundle from "
            "its source, or train again.",
            folder=str(folder),
        ) from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, kind: np.dtype[Any]) -> NDArray[Any]:
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > _MAX_BYTES:
        raise ValueError(f"{info.filename} is compressed or too large")
    body = io.BytesIO(archive.read(info))
    if np.lib.format.read_magic(body) != (1, 0):
        raise ValueError(f"{info.filename} has another .npy version")
    shape, is_fortran, found = np.lib.format.read_array_header_1_0(body)
    n_values = int(np.prod(shape, dtype=np.float64))
    data = body.read()
    # checked before any memory is allocated: a header may claim more data than there is
    if found != kind or is_fortran or len(data) != n_values * kind.itemsize:
        raise ValueError(f"{info.filename}: expected {kind}, received {found} {shape} in {len(data):,} bytes")
    return np.frombuffer(data, kind).reshape(shape)


def _flag(array: NDArray[Any]) -> bool:
    if array.shape != ():
        raise ValueError(f"expected one truth value follows_mix, received the shape {array.shape}")
    return bool(array)
