"""Where measurements run: one embedded Postgres, and for each measurement a fresh database and a separate process."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, TypeVar

import platformdirs
import sqlalchemy as sa

from bloodcell.settings import Settings
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade

MIGRATED = "migrated"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Place:
    """What a measuring process has to know.

    Attributes:
        folder: Folder of this run. It is emptied only at the end, because ext4 creates files slowly for a while after
            many were deleted.
        cache: Folder that is kept between runs.
        server: URL of the server's own database.
        quick: Whether sizes are small, so that the figures mean nothing.
    """

    folder: Path
    cache: Path
    server: str
    quick: bool

    def fresh(self, template: str = MIGRATED) -> Settings:
        """Returns settings with a fresh copy of a database, and with the original's store or an empty one."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        administer(self.server, f"CREATE DATABASE {name} TEMPLATE {template}")
        administer(self.server, "CHECKPOINT")
        os.sync()  # the copy is on the disk, so no measurement waits for it
        return self._settings(name, store=name if template == MIGRATED else template)

    def file_us(self) -> float:
        """Returns the microseconds that a new file takes, after waiting up to six minutes until files are made quickly.

        After many files were deleted, for instance by tests, ext4 passes over their places for minutes. A file then
        takes 500 microseconds instead of 40, and a benchmark would measure that.
        """
        deadline = time.monotonic() + (0 if self.quick else 360)
        while True:
            folder = self.folder / f"files-{uuid.uuid4().hex[:12]}"
            for number in range(256):
                (folder / f"{number:02x}").mkdir(parents=True)
            started = time.perf_counter()
            for number in range(512):
                (folder / f"{number % 256:02x}" / str(number)).write_bytes(bytes(15_000))
            file_us = (time.perf_counter() - started) / 512 * 1e6
            if file_us < 80 or time.monotonic() > deadline:
                return file_us
            time.sleep(10)

    def template(self, name: str) -> Settings:
        """Returns settings with the database that `fresh(name)` copies, which is created if missing."""
        if name not in administer(self.server, "SELECT datname FROM pg_database"):
            administer(self.server, f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
        return self._settings(name, store=name)

    def _settings(self, database: str, store: str) -> Settings:
        url = sa.make_url(self.server).set(database=database).render_as_string(hide_password=False)
        folder = self.folder / database
        return Settings(data_dir=folder, database_url=url, store_url=str(self.folder / store / "store"), settle_s=0)


@contextmanager
def measuring_place(*, quick: bool) -> Iterator[Place]:
    """Yields a place with a running server and a migrated database; removes both at the end."""
    cache = platformdirs.user_cache_path("bloodcell") / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="run-", dir=cache) as folder:
        postgres = embedded_database(Settings(data_dir=Path(folder)))
        try:
            server = postgres.url("postgres")
            administer(server, f"CREATE DATABASE {MIGRATED}")
            upgrade(postgres.url(MIGRATED))
            yield Place(Path(folder), cache, server, quick)
        finally:
            postgres.stop()


def apart(work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Returns what `work` returns in a separate process, so that no measurement inherits another's memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *args, **kwargs).result()


def peak_mib() -> float:
    """Returns the most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would return the parent's peak if that is higher
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def administer(server: str, statement: str) -> list[str]:
    """Returns the first column of what the statement returns, if anything."""
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        answer = connection.execute(sa.text(statement))
        return list(answer.scalars()) if answer.returns_rows else []
