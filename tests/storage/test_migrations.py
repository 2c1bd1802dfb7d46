"""A database comes to this release's schema wholly or not at all, and the views with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, SchemaError
from bloodcell.resources import sql_folder
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres
from bloodcell.storage.migrations import check_revision, current_revision, head_revision, upgrade
from tests.storage.conftest import as_superuser, until

HEAD = head_revision()
UPGRADE = "import sys; from bloodcell.storage.migrations import upgrade; upgrade(sys.argv[1])"


def rows(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    with connect(url).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), values)]


def execute(url: str, *statements: str) -> None:
    with as_superuser(url).connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def contents(url: str) -> list[tuple[Any, ...]]:
    """Every relation and function there is, by number: a different number is a different thing."""
    return rows(
        url,
        "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') "
        "UNION SELECT p.oid, n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = 'bloodcell' ORDER BY 1",
    )


def views(url: str) -> list[str]:
    return [name for (name,) in rows(url, "SELECT viewname FROM pg_views WHERE schemaname = 'bloodcell' ORDER BY 1")]


def test_an_empty_database_gets_every_table_and_view(empty_database_url: str) -> None:
    assert upgrade(empty_database_url) == (None, HEAD)
    found = rows(empty_database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'bloodcell'")
    assert {name for (name,) in found} == {table.name for table in tables.metadata.sorted_tables} | {"alembic_version"}
    assert "slide_differential" in views(empty_database_url)
    with connect(empty_database_url).connect() as connection:
        check_revision(connection)


def test_upgrading_twice_leaves_everything_where_it_was(database_url: str) -> None:
    before = contents(database_url)
    assert upgrade(database_url) == (HEAD, HEAD)
    assert contents(database_url) == before


def test_two_upgrades_at_once_both_end_at_the_head(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(upgrade, [empty_database_url] * 2))
    assert sorted(results, key=str) == [(HEAD, HEAD), (None, HEAD)]


def test_a_database_in_another_encoding_is_refused(empty_database_url: str) -> None:
    with sa.create_engine(empty_database_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    url = sa.make_url(empty_database_url).set(database="ascii").render_as_string(hide_password=False)
    with pytest.raises(ConfigurationError, match="ascii is in SQL_ASCII, expected UTF8"):
        upgrade(url)


@pytest.mark.parametrize("found", ["9999", "00ff"])
def test_a_newer_database_is_refused_and_not_touched(database_url: str, found: str) -> None:
    execute(database_url, f"UPDATE bloodcell.alembic_version SET version_num = '{found}'")
    before = contents(database_url)
    with pytest.raises(SchemaError, match=f"revision {found}, newer than this release") as caught:
        upgrade(database_url)
    assert (caught.value.found, caught.value.expected) == (found, HEAD)
    assert contents(database_url) == before
    with connect(database_url).connect() as connection, pytest.raises(SchemaError, match="newer than this release"):
        check_revision(connection)


def test_tables_and_migrations_agree(database_url: str, empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE SCHEMA bloodcell")
    tables.metadata.create_all(connect(empty_database_url))
    for name, statement in CATALOGS.items():
        assert rows(database_url, statement) == rows(empty_database_url, statement), name


def test_alembic_finds_nothing_to_migrate(database_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with connect(database_url).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_schemas": True, "version_table_schema": tables.SCHEMA, "compare_server_default": True},
        )
        assert compare_metadata(context, tables.metadata) == []


def test_changed_views_are_replaced_and_a_missing_one_comes_back(database_url: str) -> None:
    names = views(database_url)
    execute(database_url, "DROP VIEW bloodcell.operating_figure")
    upgrade(database_url)
    assert views(database_url) == names

    execute(database_url, "COMMENT ON SCHEMA bloodcell IS 'bloodcell; views of another release'")
    before = dict(rows(database_url, "SELECT relname::text, oid FROM pg_class WHERE relname = 'champion'"))
    upgrade(database_url)
    assert dict(rows(database_url, "SELECT relname::text, oid FROM pg_class WHERE relname = 'champion'")) != before
    assert rows(database_url, "SELECT has_table_privilege('bloodcell_reader', 'bloodcell.champion', 'SELECT')") == [
        (True,)
    ]


def test_views_that_a_laboratory_built_are_never_dropped(database_url: str) -> None:
    execute(
        database_url,
        "CREATE SCHEMA lab",
        "CREATE VIEW lab.high_ig AS SELECT barcode FROM bloodcell.slide_differential WHERE class = 'ig'",
    )
    before = contents(database_url)
    assert upgrade(database_url) == (HEAD, HEAD)
    assert contents(database_url) == before

    execute(database_url, "COMMENT ON SCHEMA bloodcell IS 'bloodcell; views of another release'")
    with pytest.raises(SchemaError, match=r"(?s)nothing was changed.*view lab\.high_ig depends on"):
        upgrade(database_url)
    assert contents(database_url) == before


# where the upgrade is held up and killed: at its first table, and at its first view, when the migrations are through
@pytest.mark.parametrize("tag", ["CREATE TABLE", "CREATE VIEW"])
def test_an_upgrade_killed_in_the_middle_leaves_the_database_as_it_was(empty_database_url: str, tag: str) -> None:
    execute(
        empty_database_url,
        "CREATE FUNCTION public.hold() RETURNS event_trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(4711); END'",
        f"CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('{tag}') EXECUTE FUNCTION public.hold()",
    )
    before = contents(empty_database_url)
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
    with connect(empty_database_url).connect() as holder:
        holder.execute(sa.text("SELECT pg_advisory_lock(4711)"))
        child = subprocess.Popen([sys.executable, "-c", UPGRADE, empty_database_url])
        try:
            until(lambda: rows(empty_database_url, waiting) or child.poll() is not None, timeout_s=60)
            assert child.poll() is None
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
    nobody_works = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    until(lambda: not rows(empty_database_url, nobody_works))
    assert contents(empty_database_url) == before
    with connect(empty_database_url).connect() as connection:
        assert current_revision(connection) is None
    assert upgrade(empty_database_url) == (None, HEAD)


def test_a_login_that_may_create_roles_upgrades_without_being_superuser(own_server: EmbeddedPostgres) -> None:
    # as on a managed Postgres, where nobody is superuser
    execute(
        own_server.url("postgres"),
        *(f"DROP ROLE IF EXISTS {role}" for role in ("bloodcell_app", "bloodcell_reader")),
        "CREATE ROLE administrator LOGIN CREATEROLE",
        "CREATE DATABASE one OWNER administrator",
        "CREATE DATABASE two OWNER administrator",
    )
    for name in ("one", "two"):
        url = sa.make_url(own_server.url(name)).set(username="administrator").render_as_string(hide_password=False)
        assert upgrade(url) == (None, HEAD)
        assert upgrade(url) == (HEAD, HEAD)


def test_every_view_is_explained_with_every_column(database_url: str) -> None:
    explained = dict(
        re.findall(r"^### `(\w+)`\n(.*?)(?=^#|\Z)", (sql_folder() / "views" / "README.md").read_text(), re.S | re.M)
    )
    assert sorted(explained) == views(database_url)
    columns = rows(
        database_url,
        "SELECT v.viewname::text, a.attname::text FROM pg_views v JOIN pg_attribute a "
        "ON a.attrelid = format('bloodcell.%I', v.viewname)::regclass AND a.attnum > 0 "
        "WHERE v.schemaname = 'bloodcell'",
    )
    missing = [(view, column) for view, column in columns if f"`{column}`" not in explained[view]]
    assert missing == []
    uncommented = f"SELECT relname FROM pg_class WHERE {_OURS} AND relkind IN ('r', 'p', 'v')"
    assert rows(database_url, f"{uncommented} AND obj_description(oid) IS NULL") == []


_OURS = "relnamespace = 'bloodcell'::regnamespace AND relname <> 'alembic_version'"
_OF_OURS = f"{_OURS} AND relkind IN ('r', 'p')"
CATALOGS = {
    "tables": f"SELECT relname::text, relkind, pg_get_partkeydef(oid), obj_description(oid) FROM pg_class "
    f"WHERE {_OF_OURS} ORDER BY 1",
    "columns": "SELECT c.relname::text, a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
    "a.attidentity, pg_get_expr(d.adbin, d.adrelid) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
    f"LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE {_OF_OURS} AND a.attnum > 0 "
    "ORDER BY 1, 2",
    "constraints": "SELECT c.relname::text, k.conname::text, pg_get_constraintdef(k.oid) FROM pg_constraint k "
    f"JOIN pg_class c ON c.oid = k.conrelid WHERE {_OF_OURS} ORDER BY 1, 2",
    "indexes": "SELECT tablename::text, indexname::text, indexdef FROM pg_indexes "
    "WHERE schemaname = 'bloodcell' AND tablename <> 'alembic_version' ORDER BY 1, 2",
}
