"""The content-addressed store, in a real folder and on a real S3 server: a file with its final name is complete."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from bloodcell.errors import ConfigurationError, StoreUnavailableError
from bloodcell.storage import atomic_write, durability
from bloodcell.storage.store import Store
from tests.conftest import small_disk, thin_disk
from tests.laboratory import at_once

BODY = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(BODY).hexdigest()
MODEL_ID = "c0ffee" + 58 * "0"


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def bucket(s3: fsspec.AbstractFileSystem, tmp_path: Path) -> Store:
    return Store(f"s3://laboratory/{tmp_path.name}", tmp_path / "cache")


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with files named as in a bundle; a store verifies none of them."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    (folder / "model.keras").write_bytes(BODY)
    (folder / "reference.npz").write_bytes(BODY[:1000])
    return folder


def files(store: Store) -> list[str]:
    """Returns all files of a store, relative to its root."""
    store._fs.invalidate_cache()
    return sorted(path.removeprefix(f"{store._root}/") for path in store._fs.find(store._root))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_image_is_kept_once_under_its_digest(store: Store) -> None:
    for _ in range(3):
        store.put_image(SHA256, BODY)
        store.flush()
    assert files(store) == [f"images/{SHA256[:2]}/{SHA256}"]
    assert store.read_image(SHA256) == BODY


def test_an_altered_image_is_refused_with_both_digests(store: Store) -> None:
    store.put_image(SHA256, BODY)
    store._fs.pipe_file(store._image(SHA256), BODY[:-1] + b"\0")
    altered = hashlib.sha256(BODY[:-1] + b"\0").hexdigest()
    with pytest.raises(StoreUnavailableError, match=f"{SHA256}.*altered: its digest is {altered}"):
        store.read_image(SHA256)


def test_a_missing_image_is_named_with_the_place_to_put_it_back(store: Store) -> None:
    with pytest.raises(StoreUnavailableError, match=f"{SHA256} cannot be read.*images/{SHA256[:2]}/{SHA256}"):
        store.read_image(SHA256)


def test_an_empty_store_is_unavailable_and_one_with_an_image_is_available(store: Store) -> None:
    with pytest.raises(StoreUnavailableError, match="neither images nor models"):
        store.check()
    store.put_image(SHA256, BODY)
    store._fs.invalidate_cache()
    store.check()


def test_a_url_that_nothing_can_open_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BLOODCELL_STORE_URL"):
        Store("nowhere://laboratory", tmp_path)


def test_many_writers_of_one_image_leave_one_file_that_readers_only_see_complete(store: Store) -> None:
    store.put_image(SHA256, BODY)
    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(store.put_image, SHA256, BODY) for _ in range(40)]:
            assert store.read_image(SHA256) == BODY
            each.result()
    assert files(store) == [f"images/{SHA256[:2]}/{SHA256}"]


WRITER = """
import sys
from pathlib import Path
from bloodcell.storage.store import Store
store = Store(sys.argv[1], Path("cache"))
for _ in range(100):
    store.put_image(sys.argv[2], bytes(range(256)) * 4096)
"""


def test_processes_that_write_one_image_at_once_do_not_disturb_each_other(folder: Store) -> None:
    started = [subprocess.Popen([sys.executable, "-c", WRITER, folder._root, SHA256]) for _ in range(3)]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    assert files(folder) == [f"images/{SHA256[:2]}/{SHA256}"]
    assert folder.read_image(SHA256) == BODY


KILLED = """
import resource, signal, sys
from pathlib import Path
from bloodcell.storage.store import Store
store = Store(sys.argv[1], Path("cache"))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
if sys.argv[3]:
    store.put_bundle(Path(sys.argv[3]), sys.argv[2])
else:
    store.put_image(sys.argv[2], bytes(range(256)) * 4096)
"""
"""The kernel ends this process in the middle of a file, after 100,000 bytes."""


def killed_in_mid_write(root: str, name: str, folder: str = "") -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, root, name, folder], check=False)
    assert process.returncode == -signal.SIGXFSZ


def test_a_kill_in_the_middle_of_an_image_leaves_none_and_the_next_run_stores_it(folder: Store) -> None:
    killed_in_mid_write(folder._root, SHA256)
    (part,) = Path(folder._root).rglob("*.part")
    assert part.stat().st_size == 100_000
    with pytest.raises(StoreUnavailableError, match="cannot be read"):
        folder.read_image(SHA256)
    folder.put_image(SHA256, BODY)
    assert folder.read_image(SHA256) == BODY


def test_a_kill_in_the_middle_of_a_bundle_leaves_none_and_the_next_run_stores_it(folder: Store, bundle: Path) -> None:
    killed_in_mid_write(folder._root, MODEL_ID, str(bundle))
    assert not (Path(folder._root) / "models" / MODEL_ID).exists()
    folder.put_bundle(bundle, MODEL_ID)
    assert contents(folder.bundle_folder(MODEL_ID)) == contents(bundle)


def test_a_kill_while_an_image_is_replaced_leaves_the_earlier_file(folder: Store) -> None:
    folder.put_image(SHA256, BODY)
    killed_in_mid_write(folder._root, SHA256)
    assert folder.read_image(SHA256) == BODY


def test_a_full_disk_keeps_no_partial_file_and_takes_files_again_when_there_is_space(
    tmp_path: Path, bundle: Path
) -> None:
    with small_disk(tmp_path / "disk", "1200k") as disk:
        store = Store(str(disk), tmp_path / "cache")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(600_000))
        attempts: tuple[Callable[[], object], ...] = (
            lambda: store.put_image(SHA256, BODY),
            lambda: store.put_bundle(bundle, MODEL_ID),
            lambda: store.put_report(MODEL_ID, BODY),
        )
        for attempt in attempts:
            with pytest.raises(StoreUnavailableError, match=r"No space left.*Free space"):
                attempt()
        assert files(store) == ["ballast"]
        ballast.unlink()
        store.put_image(SHA256, BODY)
        store.flush()
        store.close()
        assert store.read_image(SHA256) == BODY


def test_a_folder_that_cannot_be_written_to_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailableError, match="cannot keep image"):
        Store(str(tmp_path / "store"), tmp_path / "cache").put_image(SHA256, BODY)


def test_a_bundle_is_stored_whole_and_storing_it_again_does_no_harm(store: Store, bundle: Path) -> None:
    for _ in range(2):
        store.put_bundle(bundle, MODEL_ID)
    assert files(store) == [f"models/{MODEL_ID}/{name}" for name in sorted(contents(bundle))]
    assert contents(store.bundle_folder(MODEL_ID)) == contents(bundle)


def test_storing_a_bundle_again_in_a_folder_restores_altered_and_lost_files(folder: Store, bundle: Path) -> None:
    folder.put_bundle(bundle, MODEL_ID)
    stored = folder.bundle_folder(MODEL_ID)
    (stored / "model.keras").write_bytes(BODY[1:])
    (stored / "reference.npz").unlink()
    (stored / "more").write_text("a file that does not belong there")
    folder.put_bundle(bundle, MODEL_ID)
    assert contents(stored) == contents(bundle)
    assert os.listdir(stored.parent) == [MODEL_ID]  # noqa: PTH208 - hidden parts, too


def test_in_a_bucket_a_bundle_without_its_manifest_is_stored_again(
    bucket: Store, s3: fsspec.AbstractFileSystem, bundle: Path
) -> None:
    s3.pipe_file(f"{bucket._root}/models/{MODEL_ID}/model.keras", b"half")
    bucket.put_bundle(bundle, MODEL_ID)
    assert contents(bucket.bundle_folder(MODEL_ID)) == contents(bundle)


def test_a_copy_of_a_bundle_is_kept_until_a_fresh_one_is_asked_for(
    bucket: Store, s3: fsspec.AbstractFileSystem, bundle: Path
) -> None:
    bucket.put_bundle(bundle, MODEL_ID)
    copy = bucket.bundle_folder(MODEL_ID)
    s3.pipe_file(f"{bucket._root}/models/{MODEL_ID}/model.keras", b"altered")
    assert contents(bucket.bundle_folder(MODEL_ID)) == contents(bundle)
    assert bucket.bundle_folder(MODEL_ID, fresh=True) == copy
    assert (copy / "model.keras").read_bytes() == b"altered"


def test_workers_that_fetch_a_bundle_at_once_all_get_a_whole_copy(bucket: Store, bundle: Path) -> None:
    bucket.put_bundle(bundle, MODEL_ID)
    found: list[dict[str, bytes]] = []
    assert at_once(4, lambda: found.append(contents(bucket.bundle_folder(MODEL_ID)))) == []
    assert found == [contents(bundle)] * 4
    assert os.listdir(bucket.bundle_folder(MODEL_ID).parent) == [MODEL_ID]  # noqa: PTH208 - hidden parts, too


def test_a_missing_bundle_is_unavailable(bucket: Store, folder: Store) -> None:
    with pytest.raises(StoreUnavailableError, match=f"{MODEL_ID[:12]} cannot be fetched"):
        bucket.bundle_folder(MODEL_ID)
    with pytest.raises(StoreUnavailableError, match="is unavailable"):
        folder.bundle_folder(MODEL_ID)


def test_a_report_is_kept_under_the_digest_of_its_page(store: Store) -> None:
    first, again, other = (store.put_report(MODEL_ID, page) for page in (b"<p>one", b"<p>one", b"<p>two"))
    assert first == again != other
    with fsspec.open(first, "rb") as page:
        assert page.read() == b"<p>one"
    assert len(files(store)) == 2


def test_what_the_disk_lost_after_it_was_written_is_an_error(tmp_path: Path) -> None:
    with thin_disk(tmp_path / "thin", "24m", "64m") as disk:
        store = Store(str(disk / "store"), tmp_path / "cache")
        with closing(store):
            store.put_image(SHA256, BODY)
            store.flush()
            for body in [os.urandom(600_000) for _ in range(60)]:
                store.put_image(hashlib.sha256(body).hexdigest(), body)
            with pytest.raises(StoreUnavailableError, match=r"lost what was just written: (Input|No space)"):
                store.flush()
            store.flush()  # each error once


def test_a_file_that_is_written_while_others_are_made_durable_is_made_durable_by_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    image = tmp_path / "store" / "images" / SHA256[:2] / SHA256

    class Disk:
        """Notes at each sync whether the file is there."""

        def syncfs(self, _descriptor: int) -> int:
            synced.append(image.exists())
            return 0

    kept = Store(str(tmp_path / "store"), tmp_path / "cache")

    def write(path: str, body: bytes, mode: int) -> None:
        kept.flush()  # in another thread, between the announcement of this file and its writing
        atomic_write.write_atomically(path, body, mode)

    monkeypatch.setattr(durability, "_LIBC", Disk())
    monkeypatch.setattr("bloodcell.storage.store.write_atomically", write)
    with closing(kept):
        kept.put_image(SHA256, BODY)
        kept.flush()
    assert synced == [False, True]


def test_without_syncfs_each_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []

    def make_durable(path: Path) -> None:
        synced.append(path)
        atomic_write.make_durable(path)

    monkeypatch.setattr(durability, "_has_syncfs", lambda: False)
    monkeypatch.setattr(durability, "make_durable", make_durable)
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    store.put_image(SHA256, BODY)
    store.flush()
    store.flush()
    image = Path(store._image(SHA256))
    assert synced == [image, image.parent]
