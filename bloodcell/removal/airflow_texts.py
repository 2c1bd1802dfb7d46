"""Names of erased slides in the tables of the Airflow that `bloodcell up` runs: XComs, notes, forms and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.removal.names_in_texts import BLANK, blank_json, postgres_pattern
from bloodcell.storage.connections import connect, transact
from bloodcell.storage.embedded import AIRFLOW_DATABASE, embedded_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.settings import Settings

# columns that hold what people or tasks wrote (Airflow 3.3); all others hold names of Dags, tasks, users and states
_COLUMNS: Final = {
    "asset_event": ("extra",),
    "asset_state_store": ("value",),
    "backfill": ("dag_run_conf",),
    "dag_run": ("conf",),
    "dag_run_note": ("content",),
    "hitl_detail": ("subject", "body", "params", "params_input"),
    "hitl_detail_history": ("subject", "body", "params", "params_input"),
    "import_error": ("stacktrace",),
    "log": ("extra",),
    "rendered_task_instance_fields": ("rendered_fields",),
    "task_instance": ("next_kwargs", "rendered_map_index"),
    "task_instance_history": ("next_kwargs", "rendered_map_index"),
    "task_instance_note": ("content",),
    "task_map": ("keys",),
    "task_state_store": ("value",),
    "xcom": ("value",),
}


def blank_airflow_texts(settings: Settings, names: Sequence[str]) -> int:
    """Replaces the names in Airflow's tables and returns the number of texts changed.

    An Airflow that another server runs is not reached: 0.

    Raises:
        DatabaseUnavailableError: The embedded Postgres does not start.
    """
    if not (settings.data_dir / "postgres").exists():
        return 0
    engine = connect(embedded_database(settings).url(AIRFLOW_DATABASE))
    return transact(engine, lambda connection: _blank(connection, names), patience_s=settings.database_patience_s)


def _blank(connection: sa.Connection, names: Sequence[str]) -> int:
    pattern = postgres_pattern(names)
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    n = 0
    for name, columns in _COLUMNS.items():
        if name not in there:
            continue  # another release of Airflow, or its database has not been prepared yet
        types = {column["name"]: column["type"] for column in inspector.get_columns(name)}
        for column in types.keys() & set(columns):
            table = sa.table(name, sa.column(column, types[column]))
            text = table.c[column]
            if isinstance(types[column], sa.JSON):
                n += blank_json(connection, table, text, names)
                continue
            blanked = sa.func.regexp_replace(text, pattern, BLANK, "g")
            n += connection.execute(
                sa.update(table).values({column: blanked}).where(text.regexp_match(pattern))
            ).rowcount
    return n
