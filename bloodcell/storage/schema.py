"""What every table of schema `bloodcell` is declared with."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

SCHEMA: Final = "bloodcell"
metadata: Final = sa.MetaData(schema=SCHEMA)


def one_of(column: str, values: tuple[str, ...], name: str) -> sa.CheckConstraint:
    """A constraint: the column has one of these values, or none."""
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=name)


def set_now(name: str, comment: str) -> sa.Column[object]:
    """A column with the time at which its row was written."""
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now(), comment=comment)


def of_run(comment: str = "The run that wrote the row.", *, is_key: bool = False) -> sa.Column[object]:
    """A column with the run that wrote the row, as part of the table's key or beside it."""
    run = sa.ForeignKey(f"{SCHEMA}.run.run_id")
    return sa.Column("run_id", UUID(), run, primary_key=is_key, nullable=False, comment=comment)
