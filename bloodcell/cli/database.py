"""`bloodcell db`: the database's schema and how to reach it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bloodcell.presentation.tables import boxed_table

app = typer.Typer(no_args_is_help=True)


@app.callback()
def db() -> None:
    """The Postgres database: the embedded one, or your own (BLOODCELL_DATABASE_URL)."""


@app.command()
def upgrade() -> None:
    """Migrate the database to this release's schema, create the roles and replace the views. Safe to repeat.

    A database without a model gets the models that come with bloodcell (BLOODCELL_SHIPPED_MODELS).
    """
    from bloodcell.registry.shipped import install_shipped
    from bloodcell.settings import Settings
    from bloodcell.storage.connections import database_url
    from bloodcell.storage.database import open_database
    from bloodcell.storage.migrations import limit_logins, upgrade

    settings = Settings()
    before, after = upgrade(database_url(settings))
    typer.echo(f"The schema is at {after}" + (", as before." if before == after else f" (was {before or 'empty'})."))
    if unlimited := limit_logins(database_url(settings)):
        typer.echo(f"These logins of readers have no limits, and this login has no right to set them: "
                   f"{', '.join(unlimited)}. Next, as a superuser: SELECT bloodcell.limit_logins()")  # fmt: skip
    if installed := install_shipped(settings, open_database(settings)):
        typer.echo(f"Installed the {len(installed)} shipped models; the champion is {installed[0].manifest.variant} "
                   f"{installed[0].model_id[:12]}. Next: bloodcell models list")  # fmt: skip


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Show the server, the schema revision and the rows in each table. Exit status 1 if the schema is not current."""
    import sqlalchemy as sa
    from rich.console import Console

    from bloodcell.cli.output import print_json
    from bloodcell.errors import SchemaError
    from bloodcell.settings import Settings
    from bloodcell.storage.connections import connect, database_url
    from bloodcell.storage.database import Database
    from bloodcell.storage.migrations import check_revision, current_revision, head_revision
    from bloodcell.storage.tables import metadata

    database = Database(connect(database_url(Settings())), patience_s=0)
    found = database.transact(current_revision)
    expected = head_revision()
    server = database.transact(lambda c: c.scalar(sa.text("SHOW server_version")))
    refused = ""
    try:
        database.transact(check_revision)
    except SchemaError as error:
        refused = str(error)
    rows: dict[str, int] = {}
    if not refused:
        with database.connect() as connection:
            for table in metadata.sorted_tables:
                rows[table.name] = connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    if as_json:
        print_json({"server": server, "revision": found, "expected_revision": expected, "rows": rows})
    else:
        shown = boxed_table(
            "table", "rows", title=f"PostgreSQL {server}, schema revision {found} (release: {expected})"
        )
        for name, count in rows.items():
            shown.add_row(name, f"{count:,}")
        Console().print(shown)
        if refused:
            typer.echo(refused)
    raise typer.Exit(1 if refused else 0)


@app.command()
def url() -> None:
    """Print the database's URL with its password, for psql, SQLAlchemy and other programs."""
    from bloodcell.settings import Settings
    from bloodcell.storage.connections import database_url

    scheme, separator, rest = database_url(Settings()).partition("://")
    typer.echo(f"{scheme.partition('+')[0]}{separator}{rest}")  # psql does not know the name of a Python driver


@app.command()
def queries(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """List the queries that come with bloodcell: the question each answers, its variables, and where the files are."""
    from bloodcell.storage.query_files import query_files

    files = query_files()
    if as_json:
        from bloodcell.cli.output import print_json

        print_json([{"path": str(q.path), "question": q.question, "variables": q.variables} for q in files])
        return
    from rich.console import Console

    from bloodcell.presentation.tables import plain_table

    shown = plain_table("file", "question", "-v", wrapped=("question",))
    for query in files:
        shown.add_row(query.path.name, query.question, ", ".join(query.variables))
    Console().print(shown)
    typer.echo(f"The files are in {files[0].path.parent}\nNext: bloodcell db psql -f {files[0].path}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql as the role bloodcell_reader, which sees only views and can change nothing.

    Further arguments are passed to psql, for example: bloodcell db psql -c "TABLE bloodcell.night_summary"
    """
    import signal
    import subprocess

    from bloodcell.settings import Settings
    from bloodcell.storage.connections import check_psql_role, connect, database_url, psql_command, transact
    from bloodcell.storage.migrations import check_views

    settings = Settings()
    command, environment = psql_command(settings)
    transact(connect(database_url(settings)), check_views, patience_s=0)
    check_psql_role(settings)
    signal.signal(signal.SIGINT, lambda *_: None)  # psql handles it: it cancels the query and continues
    done = subprocess.run([*command, *context.args], env={**os.environ, **environment}, check=False)
    sys.exit(done.returncode)
