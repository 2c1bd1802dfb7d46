"""The parts from which the tables of schema `bloodcell` are declared."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

SCHEMA: Final = "bloodcell"
IDENTITY_SCHEMA: Final = "bloodcell_identity"
"""Schema of what orders say of patients, encrypted; it is in no backup (docs/how-to/backup.md)."""
metadata: Final = sa.MetaData(schema=SCHEMA)


def one_of(column: str, values: tuple[str, ...], name: str) -> sa.CheckConstraint:
    """Returns the constraint that a column has one of these values, or is empty."""
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=name)


def set_now(name: str, comment: str) -> sa.Column[object]:
    """Returns a column with the time at which the transaction that wrote its row began."""
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now(), comment=comment)


def set_at(name: str, comment: str) -> sa.Column[object]:
    """Returns a column with the moment at which its row was written, however long the transaction had lasted."""
    now = sa.func.clock_timestamp()
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=False, server_default=now, comment=comment)


def of_run(comment: str = "The run that wrote the row.", *, is_key: bool = False) -> sa.Column[object]:
    """Returns a column with the run that wrote the row; with `is_key` it is part of the primary key."""
    run = sa.ForeignKey(f"{SCHEMA}.run.run_id")
    return sa.Column("run_id", UUID(), run, primary_key=is_key, nullable=False, comment=comment)
