"""Writes files and folders that get their names only when they are complete.

A kill or a full disk at any point leaves the earlier file, or none. The unfinished file of a killed process stays
beside it as `.<name>.<mark>.part`, which the inboxes ignore.
"""

from __future__ import annotations

import os
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
def atomic_file(path: Path, *, is_durable: bool = False, mode: int = 0o666) -> Iterator[BinaryIO]:
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


def write_atomically(path: str, body: bytes) -> None:
    """Writes a file that replaces `path`; durable only after `DurableFolder.flush`.

    Uses as few system calls as possible: each one hands Python's lock to another thread and back, which cost more than
    the call itself when ingest ran with two threads.

    Raises:
        OSError: The folder does not exist or is read-only, or the disk is full.
    """
    part = _part_of(path)
    descriptor = os.open(part, _NEW, 0o666)
    try:
        try:
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


def make_durable(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def _part_of(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{_PROCESS}-{os.getpid()}-{threading.get_ident()}.part"
