"""Fixtures: the shared material, a real embedded Postgres, and a fresh migrated database for each test."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from xdist.scheduler import LoadFileScheduling

from bloodcell.cli import main
from bloodcell.settings import Settings
from bloodcell.storage.connections import APP_ROLE, connect
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import upgrade

pytest_plugins = ["tests.small_cells", "tests.classified_nights", "tests.s3_bucket"]

Command = Callable[..., subprocess.CompletedProcess[str]]
"""Runs `bloodcell` with arguments, and with variables of the environment by name."""

ROOT = Path(__file__).resolve().parents[1]
OWN_FOLDER = pytest.StashKey[Path]()
"""The temporary folder that was made for this run only."""
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder for the owner only

AIRFLOW_FIXTURES = {"up"}
TRAINED_FIXTURES = {"pixels_bundle", "svm_bundle", "tuned_bundle", "up_bundle"}
MARKED_FOLDERS = {"dags": "airflow", "fleet": "fleet"}
LONGEST_FIRST = (
    "tests/service/test_retrain.py",
    "tests/service/test_up.py",
    "tests/service/test_watch.py",
    "tests/fleet",
    "tests/retraining",
    "tests/monitoring",
    "tests/training",
)
"""Files and folders that take a worker minutes: one that began last would keep all other workers waiting."""
ONE_WORKER = {"tests/service/test_up.py": "up", "tests/service/test_retrain.py": "up", "tests/retraining": "retraining"}
"""File or folder -> name of those that share a running Airflow, or a validated retraining."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives this run a temporary folder of its own.

    The folder that pytest would use is shared by all runs of a user, and each run that begins forbids other users to
    enter it. The embedded Postgres, which root starts as another user, would lose its data folder.
    """
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="bloodcell-tests-")
        config.stash[OWN_FOLDER] = Path(config.option.basetemp)


def pytest_report_header(config: pytest.Config) -> str:
    """Names the folder, which is kept if a test fails."""
    return f"temporary folder: {config.option.basetemp}"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Removes the run's own temporary folder unless a test failed."""
    logging.raiseExceptions = False  # servers that end from now on log to streams that pytest has closed
    folder = session.config.stash.get(OWN_FOLDER, None)
    if folder and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks tests by their folder and needs, and orders their files if there are several workers.

    What takes longest comes first. The rest is in order of the files' names: the tests that wait for something, as
    those of the watcher do, are then spread, and seldom leave several workers idle at once.
    """
    for item in items:
        needed = set(getattr(item, "fixturenames", ()))
        if mark := MARKED_FOLDERS.get(item.path.parent.name):
            item.add_marker(mark)
        if needed & AIRFLOW_FIXTURES:
            item.add_marker("airflow")
        if needed & TRAINED_FIXTURES:
            item.add_marker("training")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (_place(item.path.relative_to(ROOT).as_posix()), item.path.name))


def pytest_collection_finish() -> None:
    """Keeps the collector of unused objects away from the million that the imports have made: a tenth of the time."""
    gc.collect()
    gc.freeze()


class ByCost(LoadFileScheduling):  # type: ignore[misc]
    """Gives each file to one worker, and files that share something costly to the same one.

    pytest-xdist 3.8 has groups for this (`--dist loadgroup`), which pytest 9.2 ignores: they are part of a node id that
    cannot be set any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = str(super()._split_scope(nodeid))
        return ONE_WORKER.get(path) or ONE_WORKER.get(path.rpartition("/")[0]) or path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCost:
    """Returns the scheduler of a run on several workers."""
    return ByCost(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder with real images, beside the checkout."""
    folder = ROOT.parent / "shared"
    if not (folder / "pbc").is_dir():
        pytest.skip("../shared with the real images is missing")
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A real embedded Postgres for the whole session, in memory if there is enough of it."""
    if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 4 * 2**30:
        folder = Path(tempfile.mkdtemp(prefix="bloodcell-tests-", dir=IN_MEMORY))
    else:
        folder = tmp_path_factory.mktemp("postgres")
    server = embedded_database(Settings(data_dir=folder))
    # no test cuts the power: a database is copied in 0.05 s instead of 2 s
    for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off", "max_wal_size = '256MB'"):
        _administer(server, f"ALTER SYSTEM SET {setting}")
    _administer(server, "SELECT pg_reload_conf()")
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """Name of a migrated database that tests copy."""
    _administer(postgres, "CREATE DATABASE template_bloodcell")
    upgrade(postgres.url("template_bloodcell"))
    return "template_bloodcell"


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> str:
    """URL of a fresh database without a schema."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    _administer(postgres, f"CREATE DATABASE {name}")
    return postgres.url(name)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """URL of a fresh migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield postgres.url(name)
    _administer(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Settings on a fresh data folder and a fresh database."""
    return Settings(data_dir=tmp_path / "data", database_url=database_url, settle_s=0)


@pytest.fixture
def database(database_url: str) -> Database:
    """A fresh migrated database, with the rights of the app."""
    return Database(connect(database_url, role=APP_ROLE), patience_s=0)


@pytest.fixture
def main_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that does what `bloodcell ARGUMENTS` does, without the second or two that a process needs to start.

    Its environment has no variables of bloodcell but those that are given by name.
    """
    umask = os.umask(0o022)
    os.umask(umask)

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
            for name in [name for name in os.environ if name.startswith("BLOODCELL_")]:
                patched.delenv(name)
            for name, value in variables.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["bloodcell", *arguments])
            main()
        os.umask(umask)
        status = ended.value.code
        assert isinstance(status, int)
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Yields `folder` with a file system of `size` (as `mount` writes it) on it, for tests to fill up."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def thin_disk(folder: Path, size: str, promised: str) -> Iterator[Path]:
    """Yields a folder on an ext4 file system that promises more room than there is, as thin provisioning does.

    Writing succeeds until the pages go to the disk; what does not fit is then lost.
    """
    with small_disk(folder, size) as real:
        image, disk = real / "image", real / "disk"
        disk.mkdir()
        with image.open("wb") as file:
            file.truncate(int(promised.removesuffix("m")) << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], capture_output=True, check=False)
        mount = ["mount", "-o", "loop", str(image), str(disk)]
        if made.returncode or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs mkfs.ext4 and a loop device")
        try:
            yield disk
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def _administer(postgres: EmbeddedPostgres, statement: str) -> None:
    engine = sa.create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement))


def _place(path: str) -> int:
    places = (place for place, longest in enumerate(LONGEST_FIRST) if path.startswith(longest))
    return next(places, len(LONGEST_FIRST))
