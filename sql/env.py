"""Alembic's entry: runs the migrations on the connection that `bloodcell.storage.migrations` hands over."""

from alembic import context

from bloodcell.storage.tables import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
)
context.run_migrations()
