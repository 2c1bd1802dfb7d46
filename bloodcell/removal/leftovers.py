"""What an erasure removes outside the database: stored images, kept features, pages, and names in logs.

The table `erasure_pending` lists it. A row is deleted only when its work is done, so a kill at any point loses nothing,
and every step can be repeated.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.errors import ConfigurationError
from bloodcell.removal.airflow_texts import blank_airflow_texts
from bloodcell.removal.names_in_texts import blank_names, is_named
from bloodcell.report.night_page import rewrite_night_pages, summaries_folder
from bloodcell.storage.connections import OWNER_ROLE, connect, database_url
from bloodcell.storage.database import Database
from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store
from bloodcell.training.feature_cache import forget_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import sqlalchemy as sa

    from bloodcell.settings import Settings

    Transact = Callable[[Callable[[sa.Connection], None]], None]

_SQL: Final = load_statements("removal/leftovers.sql")

TEXT_FOLDERS: Final = ("logs", "airflow/logs", "reports", "summaries")
"""Folders of the data folder whose files may name a slide."""
_POSTGRES_LOG: Final = "postgres/log"
_BATCH_IMAGES: Final = 500
"""Images removed in one transaction, for which an ingest may have to wait."""
_MAX_LABEL_FILE_BYTES: Final = 50_000_000


def finish_erasures(settings: Settings, transact: Transact) -> dict[int, Counter[str]]:
    """Removes all that erasures left outside the database; returns erasure -> what -> how many.

    Args:
        settings: The store and the data folder.
        transact: Runs a transaction as the owner of the schema.

    Raises:
        StoreUnavailableError: An image could not be removed; the next call does it.
        ConfigurationError: A log or page could not be changed; the next call does it.
    """
    removed: dict[int, Counter[str]] = {}
    for erasure_id, (images, names) in _pending(transact).items():
        n = removed[erasure_id] = Counter()
        n["stored images"] = _remove_images(settings, transact, erasure_id, images)
        # after the images, which a training could otherwise read again
        n["sheets of thumbnails"] = _remove_thumbnails(settings) if images else 0
        n["sets of kept features"] = forget_features(settings.data_dir / "training" / "features", images)
        for what, count in _remove_names(settings, names).items():
            n[what] = count
        removed[erasure_id] = n = +n
        transact(partial(_note_done, erasure_id=erasure_id, n=n, images=images, names=names))
    return removed


def files_of_the_site(settings: Settings, names: Sequence[str]) -> tuple[Path, ...]:
    """Returns the folders of drops and the files in the label inbox that still name the slides."""
    spelt = {form for name in names for form in (name, unicodedata.normalize("NFD", name))}
    found = [
        night / name
        for night in _entries(settings.drops)
        for name in spelt
        if "/" not in name and len(os.fsencode(name)) < 256 and (night / name).is_dir()
    ]
    for path in _files(settings.labels):
        try:
            if is_named(path.name, names) or (
                path.stat().st_size <= _MAX_LABEL_FILE_BYTES
                and is_named(path.read_text("utf-8", "surrogateescape"), names)
            ):
                found.append(path)
        except OSError:
            found.append(path)  # what cannot be read has to be looked at, too
    return tuple(sorted(found))


def _pending(transact: Transact) -> dict[int, tuple[list[str], list[str]]]:
    found: dict[int, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))

    def read(connection: sa.Connection) -> None:
        found.clear()
        for erasure_id, kind, value in connection.execute(_SQL["pending"]):
            found[erasure_id][kind == "name"].append(value)

    transact(read)
    return found


def _remove_thumbnails(settings: Settings) -> int:
    """Removes the thumbnails of the review desk, of whatever slide: the desk makes them again when they are needed."""
    sheets = list((settings.data_dir / "desk" / "sprites").glob("*.jpg"))
    for sheet in sheets:
        sheet.unlink(missing_ok=True)
    return len(sheets)


def _remove_images(settings: Settings, transact: Transact, erasure_id: int, images: Sequence[str]) -> int:
    store = Store.of(settings)
    removed: list[str] = []

    def remove(connection: sa.Connection, batch: Sequence[str]) -> None:
        connection.execute(_SQL["lock_images"])
        unused = connection.scalars(_SQL["unused_images"], {"erasure_id": erasure_id, "images": list(batch)}).all()
        n = store.remove_images(unused)
        if n:
            connection.execute(_SQL["count"], {"erasure_id": erasure_id, "part": "stored images", "n": len(n)})
        removed.extend(n)

    for start in range(0, len(images), _BATCH_IMAGES):
        transact(partial(remove, batch=images[start : start + _BATCH_IMAGES]))
    return len(removed)


def _remove_names(settings: Settings, names: Sequence[str]) -> dict[str, int]:
    n_pages, n_names = 0, 0
    for path in _texts(settings.data_dir):
        try:
            if is_named(path.name, names):
                path.unlink(missing_ok=True)
                n_pages += 1
            else:
                n = blank_names(path, names)
                n_names += n
                if n and path.parent == summaries_folder(settings):
                    _rewrite(settings, path)
        except FileNotFoundError:
            continue  # a log that was removed meanwhile
        except OSError as error:
            raise ConfigurationError(
                f"{path} may name what is erased, and cannot be changed: {error.strerror}. Correct its permissions, "
                "then run the same erasure again: it finishes the work."
            ) from error
    n_texts = blank_airflow_texts(settings, names)
    return {"pages": n_pages, "names in logs and pages": n_names, "texts in Airflow's tables": n_texts}


def _rewrite(settings: Settings, page: Path) -> None:
    """Writes a night's page again without the slide; until it can be written, it is there without the name."""
    with suppress(ValueError, ConfigurationError):
        night = date.fromisoformat(page.stem)
        database = Database(connect(database_url(settings), role=OWNER_ROLE), settings.database_patience_s)
        rewrite_night_pages(settings, database, [night])


def _note_done(
    connection: sa.Connection, erasure_id: int, n: Mapping[str, int], images: Sequence[str], names: Sequence[str]
) -> None:
    for part, count in n.items():
        if part != "stored images":  # they were counted with each removal
            connection.execute(_SQL["count"], {"erasure_id": erasure_id, "part": part, "n": count})
    for kind, values in (("image", images), ("name", names)):
        connection.execute(_SQL["done"], {"erasure_id": erasure_id, "kind": kind, "values": list(values)})


def _texts(data_dir: Path) -> Iterator[Path]:
    for folder in TEXT_FOLDERS:
        yield from _files(data_dir / folder)
    if (data_dir / _POSTGRES_LOG).is_file():
        yield data_dir / _POSTGRES_LOG


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
