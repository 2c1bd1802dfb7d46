"""A second embedded server, which tests may kill, and helpers for refusals and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database


@pytest.fixture(scope="package")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a data folder with its own embedded server."""
    return Settings(data_dir=tmp_path_factory.mktemp("own"), database_patience_s=0)


@pytest.fixture(scope="package")
def own_server(own_settings: Settings) -> Iterator[EmbeddedPostgres]:
    """An embedded server that nobody else uses."""
    server = embedded_database(own_settings)
    with as_superuser(server.url()).connect() as connection:
        connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))  # no test cuts the power
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    yield server
    server.stop()


@contextmanager
def refused(code: str = "42501") -> Iterator[None]:
    """Expects Postgres to refuse a statement with this code; 42501 is insufficient_privilege."""
    with pytest.raises(sa.exc.DBAPIError) as caught:
        yield
    assert getattr(caught.value.orig, "pgcode", None) == code, caught.value


def until(is_so: Callable[[], object], timeout_s: float = 20) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"still not true after {timeout_s} s"
        time.sleep(0.02)


def as_superuser(url: str) -> sa.Engine:
    """Returns a superuser's engine, whose statements need no commit."""
    return connect(url).execution_options(isolation_level="AUTOCOMMIT")
