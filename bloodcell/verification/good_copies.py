"""Where a good copy of a damaged object may be: the drops, a second store, the shipped models, the database.

A copy counts only if its digest is that of the object.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from bloodcell.errors import ConfigurationError, RetryLaterError, UnusableFileError
from bloodcell.inbox.unchanged_files import open_unfollowed
from bloodcell.registry.bundle import MANIFEST
from bloodcell.registry.shipped import FOLDER, MODEL_IDS
from bloodcell.storage.bare_image import without_metadata
from bloodcell.storage.decoding import ImageBounds, verify
from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database
    from bloodcell.verification.expected_objects import Expected

_SQL: Final = load_statements("verification/good_copies.sql")


class Source(Protocol):
    """A place that may hold good copies.

    Attributes:
        name: What a person calls it.
    """

    name: str

    def copies(self, wanted: Expected) -> Iterator[bytes]:
        """Yields what may be a copy; the caller compares the digest."""
        ...


def sources(settings: Settings, database: Database, others: Sequence[str]) -> list[Source]:
    """Returns where to look for good copies, the nearest first.

    Args:
        settings: Where the drops are, and the largest allowed size of an image.
        database: The ledger says which files became an image.
        others: Further folders of nights, and paths or URLs of other stores.

    Raises:
        ConfigurationError: One of `others` is neither a folder nor a store.
    """
    found: list[Source] = [_Drops(settings.drops, settings, database), _Shipped(), _Database(database)]
    return found + [_other(each, settings, database) for each in others]


def good_copy(wanted: Expected, among: Sequence[Source]) -> tuple[bytes, str] | None:
    """Returns a copy whose digest is right, and the name of its source; None if there is none."""
    for source in among:
        for body in source.copies(wanted):
            if hashlib.sha256(body).hexdigest().startswith(wanted.digest):
                return body, source.name
    return None


class _Drops:
    def __init__(self, folder: Path, settings: Settings, database: Database) -> None:
        self.name = str(folder)
        self._folder, self._database, self._bounds = folder, database, ImageBounds.of(settings)

    def copies(self, wanted: Expected) -> Iterator[bytes]:
        if not wanted.is_image:
            return
        key = {"sha256": wanted.name}
        for night, path in self._database.transact(lambda c: c.execute(_SQL["originals"], key).all()):
            body = _read(self._folder / Path(night).name / path, self._bounds.max_file_bytes)
            if body is not None:
                yield body  # as earlier releases stored it
                try:
                    yield without_metadata(body, verify(body, self._bounds).format, self._bounds)
                except UnusableFileError:  # changed since it was ingested
                    continue


class _OtherStore:
    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self._objects = store.objects

    def copies(self, wanted: Expected) -> Iterator[bytes]:
        try:
            yield self._objects.read(wanted.place)
        except (OSError, RetryLaterError):
            return


class _Shipped:
    name = "the models that come with bloodcell"

    def copies(self, wanted: Expected) -> Iterator[bytes]:
        kind, _, rest = wanted.place.partition("/")
        model_id, _, file_name = rest.partition("/")
        for variant, shipped_id in MODEL_IDS.items():
            if kind == "models" and shipped_id == model_id and (body := _read(FOLDER / variant / file_name, 2**31)):
                yield body


class _Database:
    """Holds every manifest, which is written in one form only."""

    name = "the database"

    def __init__(self, database: Database) -> None:
        self._database = database

    def copies(self, wanted: Expected) -> Iterator[bytes]:
        if wanted.name != MANIFEST:
            return
        key = {"model_id": wanted.digest}
        manifest = self._database.transact(lambda c: c.scalar(_SQL["manifest"], key))
        yield (json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _other(name: str, settings: Settings, database: Database) -> Source:
    store = Store(name, settings.data_dir / "cache" / "models")
    try:
        store.check()
    except RetryLaterError as error:
        if Path(name).is_dir():
            return _Drops(Path(name), settings, database)
        raise ConfigurationError(f"--from {name}: expected a folder of nights or another store. {error}") from error
    return _OtherStore(name, store)


def _read(path: Path, max_bytes: int) -> bytes | None:
    """Returns the bytes of a regular file; None if it is missing, too large, or cannot be read."""
    try:
        descriptor = open_unfollowed(path)
    except (OSError, ValueError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            status = os.fstat(descriptor)
            return file.read() if stat.S_ISREG(status.st_mode) and status.st_size <= max_bytes else None
        except OSError:
            return None
