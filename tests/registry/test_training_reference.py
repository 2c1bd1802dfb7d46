"""A training reference is small, has the same bytes for the same model, and is read only if it is valid."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import BundleError
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.training_reference import (
    MAX_CELLS,
    REFERENCE,
    TrainingReference,
    read_reference,
    reference_of,
    write_reference,
)


def outputs(
    n_cells: int, shares: tuple[float, ...] = (1,) * 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns embedding, probabilities, novelty and labels of made-up validation images."""
    rng = np.random.default_rng(1)
    labels = rng.choice(len(CELL_CLASSES), n_cells, p=np.array(shares) / sum(shares))
    probabilities = np.full((n_cells, len(CELL_CLASSES)), 0.02)
    probabilities[np.arange(n_cells), labels] = 0.86
    return rng.normal(size=(n_cells, 4)), probabilities, rng.uniform(size=n_cells), labels


@pytest.fixture
def reference() -> TrainingReference:
    return reference_of(*outputs(60), follows_mix=True)


def same(one: TrainingReference, other: TrainingReference) -> bool:
    names = ("embedding", "top", "confidence", "novelty", "class_counts", "follows_mix")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_what_is_written_is_read(reference: TrainingReference, tmp_path: Path) -> None:
    write_reference(tmp_path / REFERENCE, reference)
    read = read_reference((tmp_path / REFERENCE).read_bytes(), tmp_path)
    assert same(read, reference)
    assert read.follows_mix is True
    assert [read.embedding.dtype, read.top.dtype, read.class_counts.dtype] == [np.float32, np.int64, np.int64]


def test_the_same_reference_gives_the_same_bytes_on_another_day(
    reference: TrainingReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reference(tmp_path / "one", reference)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    write_reference(tmp_path / "two", reference)
    write_reference(tmp_path / "other", replace(reference, follows_mix=False))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() != (tmp_path / "other").read_bytes()
    assert {info.date_time for info in zipfile.ZipFile(tmp_path / "one").infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_many_images_are_sampled_with_balanced_classes_and_all_are_counted() -> None:
    embedding, probabilities, novelty, labels = outputs(5_000, shares=(1, 3, 1, 2, 27, 7, 54, 5))
    reference = reference_of(embedding, probabilities, novelty, labels, follows_mix=True)
    assert len(reference.top) == MAX_CELLS
    assert reference.class_counts.sum() == 5_000
    counts = np.bincount(reference.top)
    basophils = int((labels == 0).sum())
    assert counts[0] == min(basophils, counts.max())
    assert counts[6] - counts[4] in (0, 1, -1)  # the two commonest, 54 % and 27 %
    assert same(reference, reference_of(embedding, probabilities, novelty, labels, follows_mix=True))


def test_a_trained_bundle_has_a_reference_of_its_models_outputs(svm_bundle: Bundle, pixels: np.ndarray) -> None:
    reference = read_reference(svm_bundle.read(REFERENCE), svm_bundle.folder)
    assert svm_bundle.manifest.files[REFERENCE]
    assert reference.follows_mix is False
    assert reference.class_counts.sum() == svm_bundle.manifest.data.n_validation
    output = MergedNetwork([svm_bundle])({svm_bundle.input_size: pixels})[svm_bundle.model_id]
    assert reference.embedding.shape[1] == output.embedding.shape[1]
    # the validation cells and the pixels are drawn in the same way
    assert np.median(reference.novelty) == pytest.approx(np.median(output.novelty), rel=1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"embedding": np.zeros((60, 4))}, "embedding float32"),
        ({"embedding": np.full((60, 4), np.nan, np.float32)}, "embedding"),
        ({"embedding": np.zeros((0, 4), np.float32)}, "top"),
        ({"confidence": np.full(60, 1.5, np.float32)}, "confidence"),
        ({"confidence": np.zeros(59, np.float32)}, "confidence"),
        ({"novelty": np.full(60, -1, np.float32)}, "novelty"),
        ({"top": np.full(60, 8)}, "top"),
        ({"class_counts": np.zeros(8, np.int64)}, "class_counts"),
        ({"class_counts": np.ones(7, np.int64)}, "class_counts"),
    ],
)
def test_values_that_no_model_returns_are_refused(
    reference: TrainingReference, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        replace(reference, **changes)


def npy(array: np.ndarray) -> bytes:
    body = io.BytesIO()
    np.lib.format.write_array(body, array, allow_pickle=True)
    return body.getvalue()


def promising(shape: str) -> bytes:
    """Returns an .npy whose header claims `shape`, but which holds no values."""
    body = npy(np.zeros(60, np.float32)[:0])
    return body.replace(b"(0,), }" + b" " * (len(shape) - 4), shape.encode() + b", }")


Rewrite = Callable[[dict[str, bytes]], object]
BROKEN: dict[str, Rewrite] = {
    "an array missing": lambda members: members.pop("top.npy"),
    "an array too many": lambda members: members.update({"more.npy": npy(np.zeros(1))}),
    "objects, which would be unpickled": lambda members: members.update(
        {"top.npy": npy(np.array([print] * 60, dtype=object))}
    ),
    "another type": lambda members: members.update({"novelty.npy": npy(np.zeros(60))}),
    "not an array": lambda members: members.update({"novelty.npy": b"<html>"}),
    "more values claimed than present": lambda members: members.update({"confidence.npy": promising("(9999999999,)")}),
    "a flag that is an array": lambda members: members.update({"follows_mix.npy": npy(np.zeros(60, bool))}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_with_something_else_in_it_is_refused(reference: TrainingReference, tmp_path: Path, what: str) -> None:
    path = tmp_path / REFERENCE
    write_reference(path, reference)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    BROKEN[what](members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    with pytest.raises(BundleError, match=r"is not a training reference: .* Restore the bundle") as caught:
        read_reference(path.read_bytes(), path.parent)
    assert caught.value.folder == str(tmp_path)


def test_a_compressed_or_large_file_is_refused(reference: TrainingReference, tmp_path: Path) -> None:
    path = tmp_path / REFERENCE
    write_reference(path, reference)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    with pytest.raises(BundleError, match="compressed or too large"):
        read_reference(path.read_bytes(), path.parent)
    with path.open("wb") as file:
        file.truncate(17_000_000)
    with pytest.raises(BundleError, match="expected at most"):
        read_reference(path.read_bytes(), path.parent)
