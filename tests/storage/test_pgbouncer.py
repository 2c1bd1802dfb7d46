"""bloodcell works through a real PgBouncer in both modes, and refuses what cannot work there."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.settings import Settings
from bloodcell.storage.connections import check_psql_role, connect, psql_command, transact
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import EmbeddedPostgres
from bloodcell.storage.migrations import head_revision, upgrade
from tests.storage.conftest import as_superuser, until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed (Debian: pgbouncer)")
CONFIGURATION = """[databases]
* = host={server}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
logfile = {folder}/log
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {pool_size}
ignore_startup_parameters = {ignored}
"""
# one connection to Postgres, so that clients cannot but share it
POOL_SIZES = {"transaction": 1, "session": 10}
WHO = (
    "SELECT current_user::text, session_user::text, current_setting('client_encoding'), current_setting('lock_timeout')"
)

Pooled = Callable[[str, str], str]
"""Returns the URL of the database through a PgBouncer with a mode and with startup parameters that it ignores."""


@contextmanager
def pgbouncer(folder: Path, server: Path, mode: str, ignored: str) -> Iterator[None]:
    (folder / "users").write_text('"postgres" ""\n"pooled_service" ""\n')
    text = CONFIGURATION.format(
        folder=folder, server=server, mode=mode, pool_size=POOL_SIZES[mode], ignored=ignored or "extra_float_digits"
    )
    (folder / "ini").write_text(text)
    command = [str(PGBOUNCER), "-q", str(folder / "ini")]
    if os.geteuid() == 0:  # it refuses to run as root, and only the server's user can enter the folder of the socket
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, server.owner())
        command[1:1] = ["-u", server.owner()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: (folder / ".s.PGSQL.6432").exists() or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield
        finally:
            process.kill()


@pytest.fixture(scope="module")
def pooled(postgres: EmbeddedPostgres, template: str) -> Iterator[Pooled]:
    """A function that starts PgBouncers in front of one migrated database, whose service has a login of its own."""
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    with as_superuser(postgres.url("postgres")).connect() as connection, ExitStack() as stack:
        connection.execute(sa.text(f"CREATE DATABASE pooled TEMPLATE {template}"))
        connection.execute(sa.text("CREATE ROLE pooled_service LOGIN IN ROLE bloodcell_app"))
        started: dict[tuple[str, str], str] = {}

        def start(mode: str, ignored: str) -> str:
            if (mode, ignored) not in started:
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="bouncer-")))
                server = Path(str(sa.make_url(postgres.url()).query["host"]))
                stack.enter_context(pgbouncer(folder, server, mode, ignored))
                started[mode, ignored] = f"postgresql://pooled_service@/pooled?host={folder}&port=6432"
            return started[mode, ignored]

        yield start
        stack.close()
        connection.execute(sa.text("DROP DATABASE pooled WITH (FORCE)"))
        connection.execute(sa.text("DROP ROLE pooled_service"))


@pytest.fixture(params=POOL_SIZES)
def url(request: pytest.FixtureRequest, pooled: Pooled) -> str:
    """URL through a PgBouncer in each mode, configured as it comes."""
    return pooled(request.param, "")


def settings_of(tmp_path: Path, url: str) -> Settings:
    return Settings(data_dir=tmp_path, database_url=url, database_patience_s=5)


def test_a_stage_works_through_it(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = open_database(settings_of(tmp_path, url), keep=True)

    def work(connection: sa.Connection) -> list[str]:
        connection.exec_driver_sql("CREATE TEMP TABLE new_name ON COMMIT DROP AS SELECT ''::text AS name WITH NO DATA")
        connection.connection.cursor().copy_expert("COPY new_name FROM STDIN", io.StringIO("Łódź\nß\n"))
        found = connection.execution_options(yield_per=1).execute(sa.text("SELECT name FROM new_name"))
        return list(found.scalars())

    for _ in range(3):
        assert database.transact(work) == ["Łódź", "ß"]
        who = database.transact(lambda connection: connection.execute(sa.text(WHO)).one())
        assert tuple(who) == ("bloodcell_app", "pooled_service", "UTF8", "10min")
    database.dispose()


def test_an_upgrade_works_through_it(url: str) -> None:
    by_superuser = sa.make_url(url).set(username="postgres").render_as_string(hide_password=False)
    assert upgrade(by_superuser) == (head_revision(), head_revision())


def test_what_another_client_left_in_the_session_has_no_effect(tmp_path: Path, url: str) -> None:
    """As a program of the same login leaves it, in transaction mode."""
    other = connect(url).execution_options(isolation_level="AUTOCOMMIT")
    left = (
        "SET ROLE bloodcell_reader",
        "SET search_path = nowhere",
        "SET lock_timeout = 1",
        "SET client_encoding = LATIN1",
    )
    with other.connect() as client:
        for statement in left:
            client.exec_driver_sql(statement)
    try:
        as_login = transact(connect(url), lambda connection: connection.execute(sa.text(WHO)).one(), patience_s=0)
        assert as_login[:3] == ("pooled_service", "pooled_service", "UTF8")
        database = open_database(settings_of(tmp_path, url))  # reads the revision as the login
        as_app = database.transact(lambda connection: connection.execute(sa.text(WHO)).one())
        assert tuple(as_app) == ("bloodcell_app", "pooled_service", "UTF8", "10min")
    finally:
        with other.connect() as client:
            client.exec_driver_sql("DISCARD ALL")


@pytest.mark.parametrize("mode", POOL_SIZES)
@pytest.mark.parametrize(
    ("ignored", "refusal"),
    [
        ("", "unsupported startup parameter: options.*needs the address of Postgres itself"),
        ("options", "psql would act as pooled_service, expected bloodcell_reader"),
    ],
)
def test_psql_does_not_start_where_it_would_not_be_a_reader(
    tmp_path: Path, pooled: Pooled, mode: str, ignored: str, refusal: str
) -> None:
    settings = settings_of(tmp_path, pooled(mode, ignored))
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match=refusal):
        check_psql_role(settings)
    assert time.monotonic() - started < 5
    command, environment = psql_command(settings)
    asked = subprocess.run(
        [*command, "-XAtc", "SELECT current_user"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "bloodcell_reader" not in asked.stdout  # the refusal is right: psql is no reader there


def test_options_in_the_url_are_refused_at_once(pooled: Pooled) -> None:
    engine = connect(pooled("transaction", "") + "&options=-c%20statement_timeout%3D7s")
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match="leave options out of it"):
        transact(engine, lambda connection: connection.execute(sa.text("SELECT 1")), patience_s=60)
    assert time.monotonic() - started < 5
