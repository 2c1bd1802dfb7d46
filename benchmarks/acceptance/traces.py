"""Searches everything that an installation keeps for what identifies a patient: tables, files, logs and backups.

A text is sought in small and capital letters, in UTF-8, Latin-1 and UTF-16, and as hexadecimal digits and Base64, as
databases and logs write bytes. Compressed files are searched inside, too.
"""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres

_TABLES: Final = """
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 't') AND NOT pg_is_other_temp_schema(n.oid) ORDER BY 1
"""
_BYTE_COLUMNS: Final = """
    SELECT format('%I.%I', table_schema, table_name) AS name, quote_ident(column_name) AS column_name
    FROM information_schema.columns WHERE data_type = 'bytea'
"""
_CHUNK_BYTES: Final = 16 * 1024 * 1024
_SHORTEST: Final = 7
_PACKED: Final = (b"\x1f\x8b", b"PK\x03\x04")


@dataclass
class Sought:
    """What is looked for.

    Attributes:
        texts: Name of what is sought -> its spellings.
    """

    texts: Mapping[str, Iterable[str]]
    _patterns: dict[bytes, str] = field(init=False)

    def __post_init__(self) -> None:
        self._patterns = {
            pattern: what for what, spellings in self.texts.items() for each in spellings for pattern in _patterns(each)
        }

    @property
    def longest(self) -> int:
        return max(map(len, self._patterns))

    def found_in(self, body: bytes) -> set[str]:
        """Returns the names of what occurs in some bytes."""
        small = body.lower()
        return {what for pattern, what in self._patterns.items() if pattern in small}


@dataclass
class Search:
    """What was searched in one place, and what was found there.

    Attributes:
        place: In words.
        n_parts: Tables or files.
        n_bytes: Their bytes.
        found: What was found -> where.
    """

    place: str
    n_parts: int = 0
    n_bytes: int = 0
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, where: str, what: Iterable[str]) -> None:
        for each in what:
            self.found.setdefault(each, []).append(where)


def search_database(server: EmbeddedPostgres, place: str, sought: Sought) -> Search:
    """Searches every table of every database of a server, those of the catalogue included.

    Values are read as text, in which bytes are hexadecimal digits. Columns of bytes are also read as they are, and
    what Base64 hides in them.
    """
    search = Search(place)
    with connect(server.url("postgres")).connect() as connection:
        names = connection.scalars(sa.text("SELECT datname FROM pg_database WHERE datallowconn")).all()
    for name in names:
        with connect(server.url(name)).connect() as connection:
            cursor = connection.connection.cursor()
            for table in connection.scalars(sa.text(_TABLES)).all():
                sink = _Sink(sought)
                cursor.copy_expert(f"COPY (SELECT t.* FROM {table} t) TO STDOUT", sink)
                sink.look()
                search.n_parts += 1
                search.n_bytes += sink.n_bytes
                search.add(f"{name}: {table}", sink.found)
            for table, column in connection.execute(sa.text(_BYTE_COLUMNS)).all():
                found: set[str] = set()
                for value in connection.scalars(sa.text(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")):
                    search.n_bytes += len(value)
                    found |= sought.found_in(bytes(value)) | sought.found_in(_decoded(bytes(value)))
                search.add(f"{name}: {table}.{column}", found)
    return search


def search_files(folder: Path, place: str, sought: Sought, *, below: bool = True) -> Search:
    """Searches every file in a folder, and their names, inside compressed ones, too.

    Args:
        folder: The folder.
        place: What it is, in words.
        sought: What is looked for.
        below: Whether files in its subfolders are searched, too.
    """
    search = Search(place)
    for path in sorted(folder.rglob("*") if below else folder.iterdir()):
        if not path.is_file() or path.is_symlink():
            continue
        search.n_parts += 1
        name = str(path.relative_to(folder.parent))
        found = sought.found_in(name.encode())
        for body in _contents(path, sought.longest):
            search.n_bytes += len(body)
            found |= sought.found_in(body)
        search.add(name, found)
    return search


class _Sink(io.RawIOBase):
    """Takes what Postgres copies, which comes row by row, and looks into much of it at once."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought
        self._waiting = bytearray()
        self.n_bytes = 0
        self.found: set[str] = set()

    def writable(self) -> bool:
        return True

    def write(self, body: bytes) -> int:  # type: ignore[override]
        self.n_bytes += len(body)
        self._waiting += body
        if len(self._waiting) > _CHUNK_BYTES:
            self.look()
        return len(body)

    def look(self) -> None:
        """Searches what has come, and keeps its end for what begins there."""
        self.found |= self._sought.found_in(bytes(self._waiting))
        del self._waiting[: -self._sought.longest]


def _patterns(text: str) -> Iterator[bytes]:
    """Yields the bytes, in small ASCII letters, that a text may stand in a file as; very short ones would be chance."""
    for each in {text, text.upper(), text.lower(), text.title()}:
        for encoding in ("utf-8", "latin-1", "utf-16-le"):
            yield each.encode(encoding).lower()
    for each in {text, text.upper(), text.title()}:
        body = each.encode()
        yield body.hex().encode()
        for skipped in range(3):  # a text begins at any of three places of a group of Base64
            coded = base64.b64encode(b"\0" * skipped + body)
            if len(pattern := coded[(0, 2, 3)[skipped] : len(coded) - 4]) >= _SHORTEST:
                yield pattern.lower()


def _decoded(body: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(body)
    except ValueError:
        return b""


def _contents(path: Path, overlap: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(0)
        end = b""
        while body := file.read(_CHUNK_BYTES):
            yield end + body
            end = body[-overlap:]
    if first[:2] == _PACKED[0]:
        try:
            yield gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error):
            return
    elif first == _PACKED[1]:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)
