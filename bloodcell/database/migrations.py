"""The schema of this release: bring a database to it, and say which one a database has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.database.tables import SCHEMA
from bloodcell.errors import SchemaError
from bloodcell.resources import sql_folder

if TYPE_CHECKING:
    from alembic.config import Config

ROLES: Final = ("bloodcell_owner", "bloodcell_app", "bloodcell_reviewer", "bloodcell_reader")
_MIGRATION_LOCK: Final = 0x62_6C_6F_6F_64  # "blood"; one migration at a time in a database


def upgrade(url: str) -> tuple[str | None, str]:
    """Brings the database to this release's schema, makes the roles, and replaces the views.

    All in one transaction: after a kill the database is as it was.

    Args:
        url: SQLAlchemy URL; its user has to be allowed to create roles, or the four roles of `ROLES` exist and
            are granted to it.

    Returns:
        The revision before (None for an empty database) and after.

    Raises:
        SchemaError: The database is of a newer release.
        DatabaseUnavailableError: The server cannot be reached.
    """
    from alembic import command

    from bloodcell.database.engine import connect, transact

    def migrate(connection: sa.Connection) -> tuple[str | None, str]:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        _make_roles(connection)
        before = current_revision(connection)
        _refuse_newer(before)
        connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION bloodcell_owner"))
        connection.execute(sa.text("SET LOCAL ROLE bloodcell_owner"))
        _drop_views(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _make_views(connection)
        return before, head_revision()

    return transact(connect(url), migrate, patience_s=10)


def check_revision(connection: sa.Connection) -> None:
    """Raises SchemaError unless the database has exactly this release's schema."""
    found, expected = current_revision(connection), head_revision()
    if found == expected:
        return
    _refuse_newer(found)
    state = "has no bloodcell schema" if found is None else f"is at schema revision {found}"
    raise SchemaError(
        f"The database {state}, this release works with {expected}. Next: bloodcell db upgrade",
        found=found,
        expected=expected,
    )


def current_revision(connection: sa.Connection) -> str | None:
    """Returns the revision of the database, None where bloodcell's schema is missing."""
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


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in known_revisions():
        raise SchemaError(
            f"The database is at schema revision {found}, newer than this release knows "
            f"(its newest is {head_revision()}). Install the bloodcell release that made it; nothing was changed.",
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
        # roles belong to the server, not to the database: another database's migration may be making them now
        connection.execute(
            sa.text(
                f"""DO $$ BEGIN
                    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{role}') THEN
                        CREATE ROLE {role} NOLOGIN;
                    END IF;
                    IF NOT pg_has_role(current_user, '{role}', 'MEMBER') THEN
                        GRANT {role} TO CURRENT_USER;
                    END IF;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
                END $$"""  # noqa: S608 - the names are ROLES
            )
        )


def _drop_views(connection: sa.Connection) -> None:
    for name in connection.scalars(sa.text("SELECT viewname FROM pg_views WHERE schemaname = :s"), {"s": SCHEMA}).all():
        connection.execute(sa.text(f'DROP VIEW IF EXISTS {SCHEMA}."{name}" CASCADE'))


def _make_views(connection: sa.Connection) -> None:
    for path in sorted((sql_folder() / "views").glob("*.sql")):
        connection.exec_driver_sql(path.read_text(), execution_options={"no_parameters": True})
    for name in connection.scalars(sa.text("SELECT viewname FROM pg_views WHERE schemaname = :s"), {"s": SCHEMA}).all():
        connection.execute(
            sa.text(f'GRANT SELECT ON {SCHEMA}."{name}" TO bloodcell_app, bloodcell_reviewer, bloodcell_reader')
        )
