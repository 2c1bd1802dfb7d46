"""Brings a database to the schema of this release, and tells which schema a database has."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.schema import SetColumnComment, SetTableComment

from bloodcell.errors import ConfigurationError, DatabaseUnavailableError, SchemaError
from bloodcell.resources import sql_folder
from bloodcell.storage.connections import connect, transact
from bloodcell.storage.statements import load_statements
from bloodcell.storage.tables import IDENTITY_SCHEMA, SCHEMA, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config

ROLES: Final = ("bloodcell_owner", "bloodcell_app", "bloodcell_desk", "bloodcell_reviewer", "bloodcell_reader")
_SQL: Final = load_statements("storage/migrations.sql")
_LONGEST_WAIT_S: Final = 10
_DEPENDENTS: Final = "2BP01"  # dependent_objects_still_exist
_LOCK_NOT_AVAILABLE: Final = "55P03"


def upgrade(url: str) -> tuple[str | None, str]:
    """Brings the database to this release's schema, creates the roles, and replaces the views if they changed.

    Everything happens in one transaction, so a kill leaves the database as it was.

    Args:
        url: SQLAlchemy URL. Its user needs the right to create roles, unless the five roles of `ROLES` exist and are
            granted to it.

    Returns:
        The revision before (None for an empty database) and after.

    Raises:
        SchemaError: The database belongs to a newer release, or other views depend on views that change.
        ConfigurationError: The database is not in UTF-8.
        DatabaseUnavailableError: The server cannot be reached, or another session keeps a table locked.
    """
    from alembic import command

    def migrate(connection: sa.Connection) -> tuple[str | None, str]:
        _refuse_other_encoding(connection)
        _make_roles(connection)
        _wait_for_other_upgrades(connection)
        before = current_revision(connection)
        _refuse_newer(before)
        with _short_waits(connection, engine):
            scripts = _view_scripts()
            views_are_current = before == head_revision() and _views_are_made_by(connection, scripts)
            if not views_are_current:
                _drop_views(connection, before)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _comment_on_tables(connection)
            if not views_are_current:
                _make_views(connection, scripts)
        return before, head_revision()

    engine = connect(url)
    return transact(engine, migrate, patience_s=10)


def limit_logins(url: str) -> list[str]:
    """Limits the logins of readers and reviewers that have no limits yet; returns those that this login may not change.

    Args:
        url: The database, with the login that migrates it.

    Raises:
        DatabaseUnavailableError: The server cannot be reached.
    """
    return transact(connect(url), lambda c: list(c.scalars(sa.text(f"SELECT {SCHEMA}.limit_logins()"))), patience_s=10)


@contextmanager
def _short_waits(connection: sa.Connection, engine: sa.Engine) -> Iterator[None]:
    """Limits how long the upgrade waits for a table, because everyone else then waits for the upgrade."""
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LONGEST_WAIT_S}s'"))
    try:
        yield
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
            raise
        holders = transact(engine, lambda c: c.execute(_SQL["lock_holders"]).all(), patience_s=0)
        named = ", ".join(f"process {pid} of {login} since {since:%H:%M} UTC" for pid, login, since in holders)
        raise DatabaseUnavailableError(
            f"Other sessions use bloodcell's tables or views, and the upgrade waited {_LONGEST_WAIT_S} s for them: "
            f"{named or 'they have ended by now'}. Nothing was changed. Next: end them, as their login or as a "
            "superuser (SELECT pg_terminate_backend(PROCESS)), then bloodcell db upgrade"
        ) from error


def _wait_for_other_upgrades(connection: sa.Connection) -> None:
    """Waits until no other upgrade of this database is running, and becomes the owner of the schema.

    The first upgrade of a database creates the schema, which makes a second one wait; every later upgrade locks the
    table of the revision. Readers can do neither.
    """
    connection.execute(
        sa.text(
            f"""DO $$ BEGIN
                CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION bloodcell_owner;
                CREATE SCHEMA IF NOT EXISTS {IDENTITY_SCHEMA} AUTHORIZATION bloodcell_owner;
            EXCEPTION WHEN unique_violation OR duplicate_schema THEN NULL;
            END $$"""
        )
    )
    connection.execute(sa.text("SET LOCAL ROLE bloodcell_owner"))
    if current_revision(connection) is not None:
        connection.execute(sa.text(f"LOCK TABLE {SCHEMA}.alembic_version IN SHARE ROW EXCLUSIVE MODE"))


def _refuse_other_encoding(connection: sa.Connection) -> None:
    encoding, name = connection.execute(sa.text("SELECT current_setting('server_encoding'), current_database()")).one()
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database {name} has the encoding {encoding}, expected UTF8: {encoding} lacks letters that names "
            f"contain. Next: create it again with CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE "
            "template0"
        )


def check_revision(connection: sa.Connection) -> None:
    """Raises SchemaError unless the database has exactly this release's schema."""
    found, expected = current_revision(connection), head_revision()
    if found == expected:
        return
    _refuse_newer(found)
    raise _not_upgraded(found)


def check_views(connection: sa.Connection) -> None:
    """Raises SchemaError if the database has no bloodcell schema; a login that may only read can ask as well."""
    missing = "SELECT to_regnamespace('bloodcell') IS NULL OR to_regrole('bloodcell_reader') IS NULL"
    if connection.scalar(sa.text(missing)):
        raise _not_upgraded(None)


def check_own_views(connection: sa.Connection) -> None:
    """Raises an error unless the login, which may read only views, finds those of this release.

    Raises:
        SchemaError: The database has not been migrated, or its views are those of another release.
        ConfigurationError: The login may not even read views.
    """
    check_views(connection)
    if not connection.scalar(sa.text(f"SELECT has_schema_privilege('{SCHEMA}', 'USAGE')")):
        raise ConfigurationError(
            "This login may not read the views of bloodcell. Next: have it granted bloodcell_reader or "
            "bloodcell_reviewer."
        )
    if not _views_are_made_by(connection, _view_scripts()):
        raise SchemaError(
            "The views of the database are those of another release. Next: install the release that upgraded the "
            "database, or have its owner run bloodcell db upgrade",
            found=None,
            expected=head_revision(),
        )


def current_revision(connection: sa.Connection) -> str | None:
    """Returns the revision of the database; None if bloodcell's schema is missing."""
    if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": "bloodcell.alembic_version"}) is None:
        return None
    version: str | None = connection.scalar(sa.text("SELECT version_num FROM bloodcell.alembic_version"))
    return version


def head_revision() -> str:
    """Returns the revision that this release works with."""
    return known_revisions()[-1]


def known_revisions() -> list[str]:
    """Returns all revisions of this release, oldest first: the numbers that begin the files in sql/versions."""
    return sorted(path.stem.split("_", 1)[0] for path in (sql_folder() / "versions").glob("[0-9]*_*.py"))


def _not_upgraded(found: str | None) -> SchemaError:
    expected = head_revision()
    state = "has no bloodcell schema" if found is None else f"is at schema revision {found}"
    return SchemaError(
        f"The database {state}, this release works with {expected}. Next: bloodcell db upgrade",
        found=found,
        expected=expected,
    )


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in known_revisions():
        raise SchemaError(
            f"The database is at schema revision {found}, newer than this release knows "
            f"(its newest is {head_revision()}). Install the bloodcell release that upgraded it; nothing was changed.",
            found=found,
            expected=head_revision(),
        )


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(sql_folder()).replace("%", "%%"))
    return config


def _make_roles(connection: sa.Connection) -> None:
    for role in ROLES:
        # roles belong to the server, not to the database: the migration of another database may be creating them now
        connection.execute(
            sa.text(
                f"""DO $$ BEGIN
                    BEGIN
                        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{role}') THEN
                            CREATE ROLE {role} NOLOGIN;
                        END IF;
                    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                    END;
                    -- since Postgres 16, a login that creates a role may grant it but not act as it
                    IF NOT pg_has_role(current_user, '{role}', CASE
                        WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
                        GRANT {role} TO CURRENT_USER;
                    END IF;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                END $$"""  # noqa: S608 - the names are ROLES
            )
        )
    for condition, granted in _GRANTS:
        connection.execute(
            sa.text(
                f"""DO $$ BEGIN
                    IF {condition} THEN GRANT {granted} TO bloodcell_app; END IF;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                END $$"""
            )
        )


# condition, role that is then granted to bloodcell_app
_GRANTS: Final = (
    (  # the service's login can also act as the reader, which is what `bloodcell db psql` does
        """NOT pg_has_role('bloodcell_app', 'bloodcell_reader', 'MEMBER')
            AND (pg_has_role(current_user, 'bloodcell_reader', 'MEMBER WITH ADMIN OPTION')
                 -- before Postgres 16, CREATEROLE allows granting any role
                 OR current_setting('server_version_num')::int < 160000
                 AND (SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user))""",
        "bloodcell_reader",
    ),
    (  # since Postgres 16, reserved_connections are kept for logins with this right
        """pg_has_role(current_user, to_regrole('pg_use_reserved_connections'), 'MEMBER WITH ADMIN OPTION')
            AND NOT pg_has_role('bloodcell_app', to_regrole('pg_use_reserved_connections'), 'MEMBER')""",
        "pg_use_reserved_connections",
    ),
)


def _comment_on_tables(connection: sa.Connection) -> None:
    """Gives tables and columns the comments that `tables` declares, wherever those in the database differ."""
    found = {(table, column): comment for table, column, comment in connection.execute(_SQL["comments"])}
    for table in metadata.sorted_tables:
        if found[table.name, None] != table.comment:
            connection.execute(SetTableComment(table))
        for column in table.columns:
            if found[table.name, column.name] != column.comment:
                connection.execute(SetColumnComment(column))


def _view_scripts() -> list[str]:
    return [path.read_text() for path in sorted((sql_folder() / "views").glob("*.sql"))]


def _views_are_made_by(connection: sa.Connection, scripts: list[str]) -> bool:
    # such views stay, so that no reader has to wait and a laboratory's own views on them remain
    made = connection.scalar(sa.text(f"SELECT obj_description('{SCHEMA}'::regnamespace, 'pg_namespace')"))
    return made == _views_mark(scripts) and {f'{SCHEMA}."{name}"' for name in _views_of(scripts)} <= set(
        _views(connection)
    )


def _drop_views(connection: sa.Connection, found: str | None) -> None:
    if not (names := _views(connection)):
        return
    for function in connection.scalars(_SQL["functions_of_views"], {"schema": SCHEMA}).all():
        connection.execute(sa.text(f"DROP FUNCTION {function}"))
    try:
        with connection.begin_nested():
            connection.execute(sa.text(f"DROP VIEW {', '.join(names)}"))
    except sa.exc.DBAPIError as error:
        diagnosis = getattr(error.orig, "diag", None)
        if diagnosis is None or diagnosis.sqlstate != _DEPENDENTS:
            raise
        raise SchemaError(
            "The views change with this release, and other views depend on them. Save the definitions of the other "
            "views (pg_dump --schema-only), drop them, upgrade, and create them again; nothing was changed. "
            f"{diagnosis.message_detail}",
            found=found,
            expected=head_revision(),
        ) from error


def _make_views(connection: sa.Connection, scripts: list[str]) -> None:
    for script in scripts:
        connection.exec_driver_sql(script, execution_options={"no_parameters": True})
    for name in _views(connection):
        connection.execute(sa.text(f"GRANT SELECT ON {name} TO {', '.join(ROLES[1:])}"))
    connection.execute(sa.text(f"COMMENT ON SCHEMA {SCHEMA} IS '{_views_mark(scripts)}'"))


def _views(connection: sa.Connection) -> list[str]:
    """Returns bloodcell's views, quoted, without those that somebody else put into the schema."""
    ours = "SELECT viewname FROM pg_views WHERE schemaname = :schema AND viewowner = 'bloodcell_owner' ORDER BY 1"
    return [f'{SCHEMA}."{name}"' for name in connection.scalars(sa.text(ours), {"schema": SCHEMA})]


def _views_of(scripts: list[str]) -> set[str]:
    return {name for script in scripts for name in re.findall(rf"CREATE VIEW {SCHEMA}\.(\w+)", script)}


def _views_mark(scripts: list[str]) -> str:
    return f"bloodcell; views {hashlib.sha256(chr(0).join(scripts).encode()).hexdigest()}"
