"""The folders of a night, one at a time, with every entry below them; nothing is opened or followed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMPLETE_MARKER: Final = ".complete"
"""Name of the file that says a night's folder is completely written."""


@dataclass(frozen=True, slots=True)
class DropFile:
    """One entry of a night's folder.

    Attributes:
        path: Relative to the night's folder, with forward slashes; bytes that are not UTF-8 are escaped.
        location: The entry itself.
        size_bytes: As listed.
        changed_ns: Latest of modification and inode change, nanoseconds since 1970 by the file server's clock.
        problem: Quarantine reason that the listing alone gives, None for a regular file.
    """

    path: str
    location: str
    size_bytes: int
    changed_ns: int
    problem: str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class DropFolder:
    """One folder directly below a night's folder (usually a slide), or the loose files beside them (name "")."""

    name: str
    files: tuple[DropFile, ...]
    newest_change_ns: int


def walk_night(night_folder: Path) -> Iterator[DropFolder]:
    """Yields the folders of a night in the order of their names, the loose files last.

    Raises:
        OSError: The night's folder itself cannot be listed.
    """
    loose: list[DropFile] = []
    with os.scandir(night_folder) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            name = _text(entry.name)
            files = tuple(_below(Path(entry.path), name))
            try:
                own_change_ns = changed_ns(entry.stat(follow_symlinks=False))
            except FileNotFoundError:  # renamed or removed since: it is another folder now, or none
                continue
            yield DropFolder(name, files, max([own_change_ns, *(file.changed_ns for file in files)]))
        else:
            loose.append(_listed(entry, _text(entry.name)))
    if loose:
        yield DropFolder("", tuple(loose), max(file.changed_ns for file in loose))


def folders_changed_ns(night_folder: Path) -> int:
    """Returns when an entry was last added to, or taken from, the night's folder or a folder directly in it."""
    newest = changed_ns(night_folder.stat())
    with os.scandir(night_folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                newest = max(newest, changed_ns(entry.stat(follow_symlinks=False)))
    return newest


def marker_changed_ns(night_folder: Path) -> int | None:
    """Returns when the night was marked complete, None where there is no marker."""
    try:
        return changed_ns((night_folder / COMPLETE_MARKER).lstat())
    except FileNotFoundError:
        return None


def changed_ns(status: os.stat_result) -> int:
    """Returns when an entry came or was last changed, in nanoseconds since 1970.

    Copying with preserved times (rsync -t, cp -p) keeps the old mtime, ctime says when the entry came. An mtime in the
    future, from an analyser whose clock is wrong, says nothing: its slide would never count as completely written.
    """
    if status.st_mtime_ns > time.time_ns():
        return status.st_ctime_ns
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _below(folder: Path, path: str) -> Iterator[DropFile]:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        yield DropFile(path, str(folder), 0, 0, "unreadable")
        return
    for entry in ordered:
        inner = f"{path}/{_text(entry.name)}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), inner)
        else:
            yield _listed(entry, inner)


def _listed(entry: os.DirEntry[str], path: str) -> DropFile:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # renamed or removed since it was listed: its folder changes at this moment
        return DropFile(path, entry.path, 0, time.time_ns())
    except OSError:  # a folder that may be listed but not searched
        return DropFile(path, entry.path, 0, 0, "unreadable")
    problem = None
    if stat.S_ISLNK(status.st_mode):
        problem = "link"
    elif not stat.S_ISREG(status.st_mode):
        problem = "not_a_regular_file"
    elif not _is_utf8(entry.name):
        problem = "name_not_utf8"
    return DropFile(path, entry.path, status.st_size, changed_ns(status), problem)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # Python lists bytes that are no UTF-8 as lone surrogates
        return False
    return True


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
