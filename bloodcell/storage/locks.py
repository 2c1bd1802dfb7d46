"""Work that only one transaction may do at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from bloodcell.storage.ingest_tables import lock

if TYPE_CHECKING:
    Work = Literal["check", "order", "promotion", "split"]


def wait_for(connection: sa.Connection, work: Work) -> None:
    """Waits until no other transaction does this work; others then wait until this one ends.

    The lock is a row of the table `lock`, which only bloodcell's own roles may lock. Any login of the database can hold
    an advisory lock, and so stop the work.
    """
    connection.execute(sa.select(lock.c.work).where(lock.c.work == work).with_for_update()).one()
