"""The page of views: every view and column with its comment, read from a migrated database."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from docs.generator.markdown import GeneratedPage, name_cell, prose, table

PATH = "reference/views.md"
_LOG = logging.getLogger("mkdocs.docs.views")  # below mkdocs, so that --strict counts its warnings
_INTRODUCTION = """\
# Views

The views of schema `bloodcell` are what people and programs query. Names and columns are stable: a release may add
columns, so name the columns that you read. The tables below the views may change with any release and are closed to
readers. `\\d+ NAME` in psql shows the same comments.

[Read results with SQL](../how-to/sql.md) explains which model's calls a slide is reported with, and how to reach the
database.
"""
_COLUMNS = sa.text(
    """
    SELECT c.relname, obj_description(c.oid, 'pg_class'), a.attname, format_type(a.atttypid, a.atttypmod),
           col_description(c.oid, a.attnum)
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'bloodcell'::regnamespace AND c.relkind = 'v'
    ORDER BY c.relname, a.attnum
    """
)


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a view; the comment is empty where the database has none."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class View:
    """A view with its columns; the comment is empty where the database has none."""

    name: str
    comment: str
    columns: tuple[ViewColumn, ...]


def views_page(folder: Path) -> GeneratedPage:
    """Returns the page of all views, in the order of the files in sql/views.

    A view or a column without a comment is logged as a warning, which fails a strict build.
    """
    views = read_views()
    for view in views.values():
        bare = [] if view.comment else [view.name]
        bare += [f"{view.name}.{column.name}" for column in view.columns if not column.comment]
        if bare:
            _LOG.warning("No COMMENT in the database: %s", ", ".join(bare))
    sections = [_INTRODUCTION]
    for path in sorted(folder.glob("*.sql")):
        names = re.findall(r"^CREATE (?:OR REPLACE )?VIEW bloodcell\.(\w+)", path.read_text(), re.M)
        if not names:  # the comments of columns that several views have
            continue
        sections.append(f"## {path.stem.partition('_')[2].replace('_', ' ').capitalize()}")
        sections.extend(_section(views.pop(name)) for name in names)
    if views:
        _LOG.warning("Views that no file of sql/views creates: %s", ", ".join(sorted(views)))
    return GeneratedPage(PATH, "\n\n".join(sections))


def read_views() -> dict[str, View]:
    """Returns the views by name, from an embedded Postgres that runs only during this call."""
    with migrated() as connection:
        return {view.name: view for view in _views(connection)}


@contextmanager
def migrated() -> Iterator[sa.Connection]:
    """Yields a connection to an empty database of this release, in an embedded Postgres of its own."""
    from bloodcell.settings import Settings
    from bloodcell.storage.embedded import embedded_database
    from bloodcell.storage.migrations import upgrade

    with tempfile.TemporaryDirectory(prefix="bloodcell-docs-") as folder:
        server = embedded_database(Settings(data_dir=Path(folder), database_url=None))
        try:
            upgrade(server.url())
            engine = sa.create_engine(server.url(), poolclass=sa.NullPool)
            with engine.connect() as connection:
                yield connection
        finally:
            server.stop()


def _views(connection: sa.Connection) -> Iterator[View]:
    comments: dict[str, str] = {}
    columns: dict[str, list[ViewColumn]] = {}
    for view, comment, column, kind, column_comment in connection.execute(_COLUMNS):
        comments[view] = comment or ""
        columns.setdefault(view, []).append(ViewColumn(column, kind, column_comment or ""))
    yield from (View(name, comments[name], tuple(columns[name])) for name in columns)


def _section(view: View) -> str:
    rows = [(name_cell(f"`{column.name}`", column.type), prose(column.comment)) for column in view.columns]
    return "\n\n".join([f"### {view.name}", prose(view.comment), table(("column", "meaning"), rows)])
