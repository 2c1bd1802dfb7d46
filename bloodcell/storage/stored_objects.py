"""The objects of a store as they are, by place (`images/ab/ab12…`), whether or not they are what their place says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import StoreUnavailableError
from bloodcell.storage.atomic_write import make_durable, remove_part, write_atomically

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from bloodcell.storage.private_files import Rights

_BLOCK_BYTES: Final = 8_000_000


@dataclass(frozen=True, slots=True)
class Digested:
    """What an object holds: the sha256 of its bytes, and how many there are."""

    sha256: str
    size_bytes: int


class StoredObjects:
    """Reads, lists and replaces objects; a folder that cannot be reached is an error, a missing object is none.

    Args:
        fs: The file system of the store.
        root: Its root there.
        rights: Permissions of new local files.
        is_local: Whether it is a folder of this machine.
    """

    def __init__(self, fs: AbstractFileSystem, root: str, rights: Rights, *, is_local: bool) -> None:
        self._fs, self._root, self._rights, self._is_local = fs, root, rights, is_local

    def names(self, folder: str) -> list[str]:
        """Returns the names of the files and folders in a folder, hidden ones included; none if it is missing.

        Raises:
            StoreUnavailableError: The folder cannot be listed.
        """
        path = f"{self._root}/{folder}"
        try:
            if self._is_local:
                return sorted(os.listdir(path))  # noqa: PTH208 - plain strings of up to 40,000 files
            self._fs.invalidate_cache(path)
            found = self._fs.ls(path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._unavailable(path, error) from error
        # an object store may list a marker of the folder itself
        return sorted(name for each in found if (name := each.rstrip("/").rpartition("/")[2]) != Path(folder).name)

    def digest(self, place: str) -> Digested | None:
        """Returns what an object holds; None if it is missing.

        Raises:
            OSError: A local file is there and cannot be read: the disk is damaged, or access was refused.
            StoreUnavailableError: A store elsewhere cannot be read.
        """
        sha256, n_bytes = hashlib.sha256(), 0
        try:
            for block in self._blocks(place):
                sha256.update(block)
                n_bytes += len(block)
        except FileNotFoundError:
            return None
        except OSError as error:
            if self._is_local:
                raise
            raise self._unavailable(place, error) from error
        return Digested(sha256.hexdigest(), n_bytes)

    def read(self, place: str) -> bytes:
        """Returns the bytes of an object.

        Raises:
            OSError: It is missing, or cannot be read.
        """
        return b"".join(self._blocks(place))

    def replace(self, place: str, body: bytes) -> None:
        """Writes an object; a reader finds the earlier bytes or the new ones, and they survive a power cut.

        Raises:
            StoreUnavailableError: The disk is full, or access was refused.
        """
        path = f"{self._root}/{place}"
        try:
            if not self._is_local:
                self._fs.pipe_file(path, body)
                return
            self._rights.make_folder(Path(path).parent)
            write_atomically(path, body, self._rights.file)
            make_durable(Path(path))
            make_durable(Path(path).parent)
        except OSError as error:
            raise StoreUnavailableError(
                f"{path} cannot be written ({len(body):,} bytes): {error}. Free space or restore access, then run this "
                "again: what was there is still there."
            ) from error

    def changed_at(self, place: str) -> datetime | None:
        """Returns when an object, or the newest object of a folder, was written; None if it is gone.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        path = f"{self._root}/{place}"
        try:
            if self._is_local:
                return newest_change(Path(path))
            found = self._fs.find(path, detail=True)
        except OSError as error:
            raise self._unavailable(path, error) from error
        return max((_changed_at(info) for info in found.values()), default=None)

    def remove_part(self, place: str) -> None:
        """Removes what a killed writer left unfinished; only a local store has such files and folders."""
        remove_part(Path(self._root) / place)

    def _blocks(self, place: str) -> Iterable[bytes]:
        path = f"{self._root}/{place}"
        if self._is_local:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - ten million files
                while block := file.read(_BLOCK_BYTES):
                    yield block
            return
        size = self._fs.info(path)["size"] if place.startswith("models/") else 0
        if size <= _BLOCK_BYTES:
            yield self._fs.cat_file(path)  # one request
            return
        for start in range(0, size, _BLOCK_BYTES):
            yield self._fs.cat_file(path, start=start, end=min(start + _BLOCK_BYTES, size))

    def _unavailable(self, path: str, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{path} of the store {self._root} cannot be read: {error}. Mount it or restore access, then run this "
            "again: nothing is lost."
        )


def newest_change(path: Path) -> datetime | None:
    """Returns when a local file, or the newest file of a folder, was written; None if it is gone."""
    try:
        times = [path.lstat().st_mtime]
        if path.is_dir() and not path.is_symlink():
            times += [each.lstat().st_mtime for each in path.rglob("*")]
    except FileNotFoundError:
        return None
    return datetime.fromtimestamp(max(times), UTC)


def _changed_at(info: dict[str, Any]) -> datetime:
    # each file system has its own name for it; without a time, nothing counts as old
    for key in ("LastModified", "created", "mtime", "last_modified"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return datetime.now(UTC)
