"""Postgres and the content-addressed store: tables, migrations, the embedded server, connections, and runs.

    database         a Database: an engine, and how long its transactions wait for a server that is unavailable
    connections      connections with the fewest rights, and transactions that are repeated
    embedded         the Postgres that comes with bloodcell
    migrations       this release's schema, roles and views
    schema, tables   the tables, which ingest_tables, call_tables, result_tables, label_tables, training_tables,
                     desk_tables, exchange_tables, quality_tables, eqa_tables and erasure_tables define
    result_states    the states of a slide's result
    statements       statements that are read from .sql files
    query_files      the queries that ship with bloodcell
    locks            work that only one transaction may do at a time
    runs             a record of every run of a stage
    wire             how soon a lost connection is noticed
    store            images and bundles under their digests
    stored_objects   the objects of a store as they are, for verification
    private_files    permissions: for this user only, or as the folder of a shared store says
    durability       what was written survives a power cut, or an error says so
    decoding         image files become pixels, within bounds
    bare_image       image files without their metadata
    atomic_write     files that appear only when they are complete

How a statement is written:

- A statement that works on a set of rows (a join, an aggregate, a subquery) is in a `.sql` file beside the module that
  executes it, and `statements.load_statements` reads it. Users query the views in `sql/views`.
- Rows that are read or written by their key are SQLAlchemy expressions on `tables`.
- One line that reads a view by name, or calls a function of the database, may stay in Python.

A rule that decides what is reported exists once: as a view or a function in `sql/views`, or as a function in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.storage.database import Database, open_database
    from bloodcell.storage.migrations import upgrade
    from bloodcell.storage.store import Store
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "Database": "bloodcell.storage.database",
            "Store": "bloodcell.storage.store",
            "open_database": "bloodcell.storage.database",
            "upgrade": "bloodcell.storage.migrations",
        },
    )

__all__ = ["Database", "Store", "open_database", "upgrade"]
