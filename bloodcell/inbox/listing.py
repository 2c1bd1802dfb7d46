"""Lists a folder, one sub-folder at a time with everything below it; no file is opened and no link followed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bloodcell.inbox.settling import changed_ns
from bloodcell.visible_text import has_invisible, visible

MAX_DEPTH: Final = 32
"""Levels of folders below the one that is listed; an analyser needs one. Deeper ones are listed as one entry."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One entry that is not a folder.

    Attributes:
        path: Relative to the folder that was listed, with forward slashes; bytes that are not UTF-8, and invisible
            characters, are spelt out.
        location: The entry itself.
        size_bytes: As listed.
        changed_ns: As `bloodcell.inbox.settling.changed_ns` returns it.
        problem: Why it cannot be read as a file, as far as listing shows: link, not_a_regular_file, unreadable,
            too_deep, name_not_utf8 or name_not_visible. None for a regular file.
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
class ListedFolder:
    """One folder directly below the one that was listed, or the loose files beside them.

    Attributes:
        name: Its name, "" for the loose files; bytes that are not UTF-8, and invisible characters, are spelt out.
        files: All files in it, down to `MAX_DEPTH`.
        newest_change_ns: Latest change of the folder itself or of a file in it.
    """

    name: str
    files: tuple[ListedFile, ...]
    newest_change_ns: int


def list_folder(folder: Path) -> Iterator[ListedFolder]:
    """Yields the sub-folders of a folder in the order of their names, and its loose files last.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    loose: list[ListedFile] = []
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            name = _text(entry.name)
            files = tuple(_below(Path(entry.path), name))
            try:
                own_change_ns = changed_ns(entry.stat(follow_symlinks=False))
            except FileNotFoundError:  # renamed or removed since it was listed
                continue
            yield ListedFolder(name, files, max([own_change_ns, *(file.changed_ns for file in files)]))
        else:
            loose.append(_listed(entry, _text(entry.name)))
    if loose:
        yield ListedFolder("", tuple(loose), max(file.changed_ns for file in loose))


def _below(folder: Path, path: str) -> Iterator[ListedFile]:
    """Yields the files below a folder, ordered by name; without recursion, because folders can be nested very deep."""
    levels = [_entries(str(folder), path)]
    while levels:
        found = next(levels[-1], None)
        if found is None:
            levels.pop()
        elif isinstance(found, ListedFile):
            yield found
        elif len(levels) < MAX_DEPTH:
            levels.append(_entries(*found))
        else:
            location, inner = found
            yield ListedFile(inner, location, 0, 0, "too_deep")


def _entries(location: str, path: str) -> Iterator[ListedFile | tuple[str, str]]:
    """Yields the files of a folder, and location and path of its sub-folders, in the order of their names."""
    try:
        with os.scandir(location) as entries:
            ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        yield ListedFile(path, location, 0, 0, "unreadable")
        return
    for entry in ordered:
        inner = f"{path}/{_text(entry.name)}"
        yield (entry.path, inner) if entry.is_dir(follow_symlinks=False) else _listed(entry, inner)


def _listed(entry: os.DirEntry[str], path: str) -> ListedFile:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # renamed or removed since it was listed, so its folder is changing now
        return ListedFile(path, entry.path, 0, time.time_ns())
    except OSError:  # the folder can be listed, but its entries cannot be read
        return ListedFile(path, entry.path, 0, 0, "unreadable")
    problem = None
    if stat.S_ISLNK(status.st_mode):
        problem = "link"
    elif not stat.S_ISREG(status.st_mode):
        problem = "not_a_regular_file"
    elif not _is_utf8(entry.name):
        problem = "name_not_utf8"
    elif has_invisible("/".join(entry.path.split("/")[-path.count("/") - 1 :])):
        problem = "name_not_visible"
    return ListedFile(path, entry.path, status.st_size, changed_ns(status), problem)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # Python lists bytes that are not UTF-8 as lone surrogates
        return False
    return True


def _text(name: str) -> str:
    return visible(os.fsencode(name).decode("utf-8", "backslashreplace"))
