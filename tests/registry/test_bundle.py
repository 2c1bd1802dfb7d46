from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from bloodcell.errors import BundleError
from bloodcell.registry import bundle as bundles
from bloodcell.registry.bundle import Bundle, canonical_json, images_of, open_bundle, splits_of, write_bundle


@pytest.fixture
def copied(svm_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(svm_bundle.folder, tmp_path / svm_bundle.model_id))


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Changes the manifest and renames the folder to its new id, as a forger would."""
    manifest = json.loads((folder / "bundle.json").read_bytes())
    change(manifest)
    body = json.dumps(manifest).encode()
    (folder / "bundle.json").write_bytes(body)
    return folder.rename(folder.with_name(hashlib.sha256(body).hexdigest()))


def test_a_bundle_describes_itself_and_is_named_by_its_digest(svm_bundle: Bundle) -> None:
    body = (svm_bundle.folder / "bundle.json").read_bytes()
    assert svm_bundle.model_id == svm_bundle.folder.name == hashlib.sha256(body).hexdigest()
    assert canonical_json(svm_bundle.manifest) == body
    expected = {"images.csv", "look.npz", "model.keras", "reference.npz", "rehearsal.npz"}
    assert set(svm_bundle.manifest.files) == expected
    assert svm_bundle.manifest.libraries["keras"] == keras.__version__
    assert svm_bundle.manifest.base_weights.kind == "file"


def test_a_bundle_under_another_name_is_the_same_bundle(svm_bundle: Bundle, copied: Path) -> None:
    renamed = copied.rename(copied.with_name("champion"))
    assert open_bundle(renamed).model_id == svm_bundle.model_id


@pytest.mark.parametrize("name", ["model.keras", "images.csv"])
def test_an_altered_file_is_refused_with_both_digests(copied: Path, name: str) -> None:
    body = bytearray((copied / name).read_bytes())
    body[len(body) // 2] ^= 1
    (copied / name).write_bytes(bytes(body))
    with pytest.raises(BundleError, match=rf"{name} is altered: expected sha256 \w+, received \w+") as caught:
        open_bundle(copied)
    assert caught.value.folder == str(copied)


def test_an_altered_manifest_is_refused(copied: Path) -> None:
    manifest = copied / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(BundleError, match=r"bundle\.json is altered"):
        open_bundle(copied)


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "model.keras").unlink()
    with pytest.raises(BundleError, match=r"missing: model\.keras"):
        open_bundle(copied)


def test_an_extra_file_is_refused(copied: Path) -> None:
    (copied / "hook.py").write_text("print('here')")
    with pytest.raises(BundleError, match=r"not in the manifest: hook\.py"):
        open_bundle(copied)


def test_a_link_in_place_of_a_file_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "model.keras").rename(tmp_path / "elsewhere")
    (copied / "model.keras").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="not a plain file"):
        open_bundle(copied)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected the file bundle\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format_version=2), "expected format version 1, received 2"),
        (lambda manifest: manifest.pop("temperature"), "temperature"),
        (lambda manifest: manifest.update(temperature="warm"), "temperature"),
        (lambda manifest: manifest.update(classes=["blast"]), "expected the classes"),
        (lambda manifest: manifest.update(patient="x"), "patient"),
    ],
)
def test_a_manifest_of_another_format_is_refused(copied: Path, change: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        open_bundle(_rewrite(copied, change))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("novelty_threshold", float("nan")),
        ("novelty_threshold", -1.0),
        ("novelty_threshold", 1e308),
        ("confidence_threshold", float("nan")),
        ("confidence_threshold", 1e9),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("input_height_px", 10**9),
        ("input_width_px", 0),
        ("metrics", {"accuracy": 7.0}),
        ("data", {"n_training": -3}),
    ],
)
def test_a_manifest_with_an_absurd_value_is_refused(copied: Path, tmp_path: Path, field: str, value: Any) -> None:
    manifest = json.loads((copied / "bundle.json").read_text())
    manifest[field] = manifest[field] | value if isinstance(value, dict) else value
    (copied / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=rf"wrong fields: (?s:.*){field}"):
        open_bundle(copied.rename(tmp_path / "renamed"))


def test_a_manifest_that_is_not_json_is_refused(copied: Path) -> None:
    (copied / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="not JSON"):
        open_bundle(copied.rename(copied.with_name("bundle")))


def test_a_write_that_fails_leaves_no_bundle(
    svm_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    files = {name: svm_bundle.folder / name for name in svm_bundle.manifest.files}
    monkeypatch.setattr(bundles, "make_durable", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(tmp_path / "out", svm_bundle.manifest, files)
    assert list((tmp_path / "out").iterdir()) == []


def test_writing_the_same_bundle_twice_is_the_same_bundle(svm_bundle: Bundle, tmp_path: Path) -> None:
    files = {name: svm_bundle.folder / name for name in svm_bundle.manifest.files}
    for _ in range(2):
        assert write_bundle(tmp_path, svm_bundle.manifest, files).model_id == svm_bundle.model_id
    assert [each.name for each in tmp_path.iterdir()] == [svm_bundle.model_id]


def test_a_bundle_of_an_earlier_release_is_read(svm_bundle: Bundle, tmp_path: Path) -> None:
    """It has no rehearsal and no looks, but a scikit-learn pipeline, and its list of images has a column `side`."""
    images = (svm_bundle.folder / "images.csv").read_text()
    (tmp_path / "images.csv").write_text(images.replace("sha256,class,split", "sha256,class,side"))
    (tmp_path / "svm.skops").write_bytes(b"a pipeline")
    files = {name: svm_bundle.folder / name for name in ("images.csv", "model.keras", "reference.npz")}
    files |= {name: tmp_path / name for name in ("images.csv", "svm.skops")}
    earlier = open_bundle(write_bundle(tmp_path / "bundles", svm_bundle.manifest, files).folder)
    assert earlier.model_id != svm_bundle.model_id
    assert set(earlier.manifest.files) == {"images.csv", "model.keras", "reference.npz", "svm.skops"}
    assert splits_of(earlier) == splits_of(svm_bundle)
    assert images_of(earlier) == images_of(svm_bundle)
    (earlier.folder / "svm.skops").unlink()
    with pytest.raises(BundleError, match=r"missing: svm\.skops"):
        open_bundle(earlier.folder)
