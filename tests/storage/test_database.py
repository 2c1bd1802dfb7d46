"""Transactions survive a crash of the server; other errors are raised at once, and never show the password."""

from __future__ import annotations

import os
import pkgutil
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, DatabaseUnavailableError, SchemaError
from bloodcell.settings import Settings
from bloodcell.storage.connections import APP_ROLE, connect, psql_command, transact
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import EmbeddedPostgres
from bloodcell.storage.wire import WIRE
from tests.conftest import ROOT
from tests.storage.conftest import as_superuser, refused, until

SECRET = "tollkirsche"  # noqa: S105


def test_transact_survives_a_server_that_is_killed_in_the_middle(own_server: EmbeddedPostgres) -> None:
    engine = connect(own_server.url())
    with as_superuser(own_server.url()).connect() as connection:
        connection.execute(sa.text("CREATE TABLE killed (n int)"))
    attempts: list[int] = []

    def work(connection: sa.Connection) -> int:
        attempts.append(len(attempts) + 1)
        connection.execute(sa.text("INSERT INTO killed VALUES (:n)"), {"n": attempts[-1]})
        if len(attempts) == 1:
            backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))
            postmaster = own_server.server.get_pid()
            assert backend is not None
            assert postmaster is not None
            for pid in (postmaster, backend):
                os.kill(pid, signal.SIGKILL)
            threading.Thread(target=lambda: until(own_server.ensure_running)).start()
        return connection.scalar(sa.text("SELECT count(*) FROM killed")) or 0

    assert transact(engine, work, patience_s=60) == 1
    assert len(attempts) > 1
    with engine.connect() as connection:
        assert connection.scalars(sa.text("SELECT n FROM killed")).all() == [attempts[-1]]
    assert own_server.ensure_running() is False


def test_a_server_that_stays_unavailable_is_given_up_after_the_patience_set(tmp_path: Path) -> None:
    engine = connect(f"postgresql://anna:{SECRET}@/bloodcell?host={tmp_path}")
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailableError) as caught:
        transact(engine, lambda connection: connection.execute(sa.text("SELECT 1")), patience_s=0.6)
    assert 0.25 <= time.monotonic() - started < 5
    assert "0.6 s (BLOODCELL_DATABASE_PATIENCE_S)" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_standby_is_waited_for_until_it_is_promoted(database_url: str) -> None:
    engine, attempts = as_superuser(database_url), []
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE written (n int)"))

    def work(connection: sa.Connection) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            connection.execute(sa.text("SET TRANSACTION READ ONLY"))  # as on a standby
        connection.execute(sa.text("INSERT INTO written VALUES (1)"))

    transact(connect(database_url), work, patience_s=30)
    with engine.connect() as connection:
        assert (len(attempts), connection.scalar(sa.text("SELECT count(*) FROM written"))) == (2, 1)


def test_an_error_of_the_work_itself_is_raised_at_once_and_rolled_back(database_url: str) -> None:
    engine, attempts = as_superuser(database_url), []
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE once (n int PRIMARY KEY)"))

    def work(connection: sa.Connection) -> None:
        attempts.append(1)
        connection.execute(sa.text("INSERT INTO once VALUES (1)"))
        connection.execute(sa.text("INSERT INTO once VALUES (1)"))

    with refused("23505"):
        transact(connect(database_url), work, patience_s=30)
    assert len(attempts) == 1
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM once")) == 0


def test_two_transactions_that_deadlock_both_complete(database_url: str) -> None:
    engine = connect(database_url)
    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text("CREATE TABLE pair (n int PRIMARY KEY, times int)"))
        connection.execute(sa.text("INSERT INTO pair VALUES (1, 0), (2, 0)"))
    both_hold_one = threading.Barrier(2)
    attempts: list[int] = []
    add = sa.text("UPDATE pair SET times = times + 1 WHERE n = :n")

    def work(connection: sa.Connection, first: int) -> None:
        is_again = first in attempts
        attempts.append(first)
        connection.execute(sa.text("SET LOCAL deadlock_timeout = '20ms'"))
        connection.execute(add, {"n": first})
        if not is_again:
            both_hold_one.wait(10)
        connection.execute(add, {"n": 3 - first})

    threads = [
        threading.Thread(target=lambda n=n: transact(engine, lambda c: work(c, n), patience_s=20)) for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(attempts) == 3
    with engine.connect() as connection:
        assert connection.scalars(sa.text("SELECT times FROM pair")).all() == [2, 2]


@pytest.mark.parametrize(
    "url",
    [
        "",
        f"anna:{SECRET}@server/bloodcell",
        f"postgresql://anna:{SECRET}@server:port/bloodcell",
        f"mysql://anna:{SECRET}@server/bloodcell",
        f"sqlite:///{SECRET}.db".replace(SECRET, "bloodcell"),
        f"postgresql://anna:what@{SECRET}@server/bloodcell",
    ],
)
def test_a_url_that_is_not_of_postgres_is_a_configuration_error_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="BLOODCELL_DATABASE_URL") as caught:
        connect(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"username": "nobody"}, 'role "nobody" does not exist'),
        ({"username": "stranger"}, "permission denied to set role"),
        ({"username": "guarded", "password": SECRET}, "password authentication failed"),
        ({"username": "guarded"}, "no password supplied"),
    ],
)
def test_a_refused_login_is_a_configuration_error_at_once(
    own_server: EmbeddedPostgres, change: dict[str, str], message: str
) -> None:
    access = own_server.server.pgdata / "pg_hba.conf"
    rule = "local all guarded scram-sha-256\n"
    with as_superuser(own_server.url()).connect() as connection:
        for role in (APP_ROLE, "stranger", "guarded"):
            if not connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
                connection.execute(sa.text(f"CREATE ROLE {role} LOGIN PASSWORD 'right'"))
        if not access.read_text().startswith(rule):
            access.write_text(rule + access.read_text())
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    url = sa.make_url(own_server.url()).set(**change).render_as_string(hide_password=False)  # type: ignore[arg-type]
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match=message) as caught:
        transact(connect(url, role=APP_ROLE), lambda connection: None, patience_s=30)
    assert time.monotonic() - started < 10
    assert "BLOODCELL_DATABASE_URL" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_open_database_acts_as_the_app(settings: Settings) -> None:
    with open_database(settings).connect() as connection:
        assert connection.scalar(sa.text("SELECT current_user")) == "bloodcell_app"


def test_open_database_refuses_one_that_was_never_migrated(tmp_path: Path, empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match=r"has no bloodcell schema.*bloodcell db upgrade") as caught:
        open_database(Settings(data_dir=tmp_path, database_url=empty_database_url))
    assert caught.value.found is None


def test_a_kept_connection_is_one_and_is_replaced_when_it_breaks(settings: Settings, database_url: str) -> None:
    def backend(connection: sa.Connection) -> int:
        return connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0

    database = open_database(settings, keep=True)
    first, second = (database.transact(backend, patience_s=0) for _ in range(2))
    assert first == second
    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first})
    assert database.transact(backend, patience_s=20) != first
    database.dispose()

    unpooled = open_database(settings)
    assert unpooled.transact(backend) != unpooled.transact(backend)


def test_psql_acts_as_reader_and_ends_at_the_first_error(own_settings: Settings, own_server: EmbeddedPostgres) -> None:
    with as_superuser(own_server.url()).connect() as connection:
        if not connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = 'bloodcell_reader'")):
            connection.execute(sa.text("CREATE ROLE bloodcell_reader"))
    command, environment = psql_command(own_settings)

    def psql(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "-X", *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    assert psql("-Atc", "SELECT current_user, current_setting('search_path')").stdout == "bloodcell_reader|bloodcell\n"
    failed = psql("-At", "-c", "SELECT 1/0", "-c", "SELECT 'continued'")
    assert failed.returncode != 0
    assert "continued" not in failed.stdout


def test_options_in_the_url_do_not_give_psql_the_rights_of_the_login(
    postgres: EmbeddedPostgres, database_url: str
) -> None:
    url = f"{database_url}&options=-c%20statement_timeout%3D7s"
    command, environment = psql_command(Settings(database_url=url))
    asked = subprocess.run(
        [str(postgres.psql), *command[1:], "-XAtc", "SELECT current_user, current_setting('statement_timeout')"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == "bloodcell_reader|7s\n"
    with connect(url, role=APP_ROLE).connect() as connection:
        assert connection.scalar(sa.text("SELECT current_user || ' ' || current_setting('statement_timeout')")) == (
            "bloodcell_app 7s"
        )


def test_without_an_installed_client_psql_is_the_embedded_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/none")
    command, environment = psql_command(Settings(database_url=database_url))
    asked = subprocess.run(
        [*command, "-XAtc", "SELECT current_user"], env=environment, capture_output=True, text=True, check=True
    )
    assert asked.stdout == "bloodcell_reader\n"
    with pytest.raises(ConfigurationError, match="postgresql-client"):
        psql_command(Settings(database_url=f"{database_url}&sslmode=require"))


def test_a_connection_notices_that_the_server_is_gone(database_url: str) -> None:
    with connect(database_url).connect() as connection:
        asked = connection.connection.driver_connection.get_dsn_parameters()  # type: ignore[union-attr]
    assert {name: int(asked[name]) for name in WIRE} == WIRE
    for file in ("compose.yaml", "kubernetes/values.yaml"):
        of_airflow = re.search(r"SQL_ALCHEMY_CONNECT_ARGS(?:, value)?: ([\w.]+)", (ROOT / "docker" / file).read_text())
        assert of_airflow
        assert pkgutil.resolve_name(of_airflow[1]) is WIRE


@pytest.mark.parametrize("source", ["environment", "login"])
def test_names_are_stored_as_they_are_whatever_encoding_the_client_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    if source == "environment":
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    else:
        with as_superuser(database_url).connect() as connection:
            connection.execute(sa.text("ALTER ROLE postgres SET client_encoding = 'LATIN1'"))
    try:
        with connect(database_url, role=APP_ROLE).begin() as connection:
            assert connection.scalar(sa.text("SELECT 'Šimůnková'")) == "Šimůnková"
            assert connection.scalar(sa.text("SELECT octet_length(:name)"), {"name": "Šimůnková"}) == 12
    finally:
        with as_superuser(database_url).connect() as connection:
            connection.execute(sa.text("ALTER ROLE postgres RESET client_encoding"))


def test_psql_is_given_the_password_in_its_environment_only() -> None:
    command, environment = psql_command(Settings(database_url=f"postgresql://anna:{SECRET}@server:5433/lab"))
    assert SECRET not in " ".join(command)
    assert environment["PGPASSWORD"] == SECRET
    assert command[-1] == "postgresql://anna@server:5433/lab"


def test_an_error_does_not_show_the_values_of_its_statement(database_url: str) -> None:
    with connect(database_url).connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        connection.execute(sa.text("SELECT 1 / (length(:key) - length(:key))"), {"key": SECRET})
    assert "division by zero" in str(caught.value) and SECRET not in str(caught.value)


def test_a_thread_that_gets_no_connection_in_time_is_told_to_try_again(own_server: EmbeddedPostgres) -> None:
    engine = connect(own_server.url(), keep=1)
    pool = engine.pool
    assert isinstance(pool, sa.QueuePool)
    pool._timeout, pool._max_overflow = 0.05, 0
    with engine.connect(), pytest.raises(DatabaseUnavailableError, match="in use"):
        transact(engine, lambda connection: connection.scalar(sa.text("SELECT 1")), patience_s=0)
    engine.dispose()
