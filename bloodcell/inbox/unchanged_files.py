"""Reading files as they were listed: a file that changes in the meantime is left for later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcell.errors import UnusableFileError
from bloodcell.inbox.settling import changed_ns

if TYPE_CHECKING:
    from bloodcell.inbox.listing import ListedFile


class StillWrittenError(Exception):
    """The file changed or went away while it was read; it is read again later."""


def open_unfollowed(path: str | Path) -> int:
    """Returns a descriptor that reads a file; a link is refused, and a pipe does not block.

    Raises:
        OSError: It cannot be opened, or is a link.
    """
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def read_unchanged(file: ListedFile, max_bytes: int) -> bytes:
    """Returns the bytes of a regular file that did not change since it was listed; links are not followed.

    Args:
        file: As listed.
        max_bytes: If the file is larger, only one byte more than this is returned.

    Raises:
        UnusableFileError: reason unreadable.
        StillWrittenError: It changed or went away.
    """
    try:
        descriptor = open_unfollowed(file.location)
    except FileNotFoundError as error:
        raise StillWrittenError(file.path) from error
    except OSError as error:
        raise UnusableFileError("unreadable", str(error)) from error
    wanted = min(file.size_bytes, max_bytes + 1)
    # plain system calls, for the same reason as in `Store.put_image`
    try:
        body = os.read(descriptor, wanted)
        status = os.fstat(descriptor)
    except OSError as error:
        raise UnusableFileError("unreadable", str(error)) from error
    finally:
        os.close(descriptor)
    if len(body) != wanted or (status.st_size, changed_ns(status)) != (file.size_bytes, file.changed_ns):
        raise StillWrittenError(file.path)
    return body
