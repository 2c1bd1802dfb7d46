"""Writes files and folders that get their names only when they are complete.

A kill or a full disk at any point leaves the earlier file, or none. The unfinished file of a killed process stays
beside it as `.<name>.<mark>.part`, which the inboxes ignore and `bloodcell store verify --repair` removes.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESS: Final = uuid.uuid4().hex[:16]
"""Distinguishes the processes of several machines on one share; a fork of this process has another process id."""


@contextmanager
def atomic_file(path: Path, *, is_durable: bool = False, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Yields a new file that replaces `path` when the block ends without an error.

    Args:
        path: The file to write.
        is_durable: Whether the file must survive a power cut afterwards, which costs two fsyncs.
        mode: Permissions, before the umask.

    Raises:
        OSError: The folder does not exist or is read-only, or the disk is full.
    """
    part = _part_of(str(path))
    descriptor = os.open(part, _NEW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)  # noqa: PTH105 - one call, atomic
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    if is_durable:
        make_durable(path.parent)


def write_atomically(path: str, body: bytes, mode: int = 0o600) -> None:
    """Writes a file that replaces `path`; durable only after `DurableFolder.flush`.

    Uses as few system calls as possible: each one hands Python's lock to another thread and back, which cost more than
    the call itself when ingest ran with two threads.

    Args:
        path: The file to write.
        body: Its bytes.
        mode: Its permissions, whatever the umask is.

    Raises:
        OSError: The folder does not exist or is read-only, or the disk is full.
    """
    part = _part_of(path)
    descriptor = os.open(part, _NEW, 0o600)
    try:
        try:
            if mode != 0o600:
                os.fchmod(descriptor, mode)
            left = memoryview(body)
            while left:  # a disk that fills up writes only part of the bytes, and fails at the next write
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        os.replace(part, path)  # noqa: PTH105
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` for a folder that the caller creates, fills and renames; removes what is left."""
    part = Path(_part_of(str(path)))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_part(name: str) -> bool:
    """Returns whether this is the name of an unfinished file or folder of this module."""
    return _PART.fullmatch(name) is not None


def remove_part(path: Path) -> None:
    """Removes an unfinished file or folder; one that is gone already is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_durable(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_PART: Final = re.compile(r"\..+\.[0-9a-f]{16}-\d+-\d+\.(part|old)")
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def _part_of(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{_PROCESS}-{os.getpid()}-{threading.get_ident()}.part"
