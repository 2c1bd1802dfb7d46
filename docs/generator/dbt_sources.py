"""The sources of the dbt project: the marts with their comments, and what has to hold for their columns.

    python -m docs.generator.dbt_sources

writes sql/dbt/models/sources.yml again, after a change to sql/views/85_marts.sql. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import yaml

from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED
from bloodcell.differential.counting import LINES
from bloodcell.exchange.mart_export import MARTS, Column, read_dictionary
from bloodcell.storage.result_states import RESULT_STATES
from docs.generator.views import migrated

PATH: Final = Path(__file__).parents[2] / "sql" / "dbt" / "models" / "sources.yml"
_TABLES: Final = (*MARTS, "mart_slide_version")
_HEAD: Final = "# Written by `python -m docs.generator.dbt_sources` from the comments of the views. Do not edit it.\n"

_KEYS: Final = {
    "mart_slide": ("barcode", "slide_id"),
    "mart_cell": ("cell_id",),
}
"""Columns that are unique by themselves."""
_KEYS_TOGETHER: Final = {
    "mart_slide_class": ("barcode", "class"),
    "mart_slide_version": ("slide_id", "version"),
}
"""Columns that are unique together."""
_NEVER_EMPTY: Final = {
    "mart_slide": ("night", "version", "state", "made_at", "n_cells", "n_leucocytes", "model_id", "in_force_from"),
    "mart_slide_class": ("night", "barcode", "version", "state", "class", "name", "n_cells", "model_id"),
    "mart_cell": ("night", "barcode", "file_name", "sha256", "called_class", "confidence", "model_id"),
    "mart_slide_version": ("night", "barcode", "slide_id", "version", "state", "made_at", "n_cells", "model_id"),
}
_VALUES: Final = {
    "state": RESULT_STATES,
    "class": LINES,
    "called_class": (*CELL_CLASSES, UNCLASSIFIED),
    "top_class": CELL_CLASSES,
    "flag": ("low", "possibly_low", "possibly_high", "high"),
}
"""Allowed values of columns with this name."""
_OF_A_SLIDE: Final = ("mart_slide_class", "mart_cell")
"""Marts whose rows belong to a row of mart_slide."""


def sources_file(connection: sa.Connection) -> str:
    """Returns the text of sources.yml for the views of a database."""
    columns = read_dictionary(connection, _TABLES)
    comment = sa.text("SELECT obj_description(CAST('bloodcell.' || :name AS regclass), 'pg_class')")
    tables = [
        _table(name, str(connection.scalar(comment, {"name": name})), [each for each in columns if each.mart == name])
        for name in _TABLES
    ]
    source = {
        "name": "bloodcell",
        "schema": "bloodcell",
        "description": "Results of bloodcell for analysts: no challengers, no withdrawn slides, no identities.",
        "tables": tables,
    }
    written = yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=116)
    return f"{_HEAD}{written}"


def _table(name: str, comment: str, columns: Sequence[Column]) -> dict[str, Any]:
    table: dict[str, Any] = {"name": name, "description": comment}
    if name in _KEYS_TOGETHER:
        table["data_tests"] = [{"unique_together": {"arguments": {"columns": list(_KEYS_TOGETHER[name])}}}]
    table["columns"] = [_column(each) for each in columns]
    return table


def _column(column: Column) -> dict[str, Any]:
    described: dict[str, Any] = {"name": column.name, "description": column.comment, "data_type": column.type}
    if tests := _tests(column):
        described["data_tests"] = tests
    return described


def _tests(column: Column) -> list[Any]:
    """Returns what has to hold for a column, as dbt writes it."""
    tests: list[Any] = []
    if column.name in _KEYS.get(column.mart, ()):
        tests.append("unique")
    if column.name in (*_KEYS.get(column.mart, ()), *_NEVER_EMPTY[column.mart]):
        tests.append("not_null")
    if column.name in _VALUES:
        tests.append({"accepted_values": {"arguments": {"values": list(_VALUES[column.name])}}})
    if column.name.endswith("_percent") or column.name.startswith("percentage"):
        tests.append({"between": {"arguments": {"lower": 0, "upper": 100}}})
    if column.name == "confidence":
        tests.append({"between": {"arguments": {"lower": 0, "upper": 1}}})
    if column.name.startswith("n_") or column.name.endswith(("_10e9_per_l", "_per_100_wbc")):
        tests.append({"between": {"arguments": {"lower": 0}}})
    if column.name == "barcode" and column.mart in _OF_A_SLIDE:
        to = "source('bloodcell', 'mart_slide')"
        tests.append({"relationships": {"arguments": {"to": to, "field": "barcode"}}})
    return tests


def main() -> None:
    """Writes the file."""
    with migrated() as connection:
        PATH.write_text(sources_file(connection))


if __name__ == "__main__":
    main()
