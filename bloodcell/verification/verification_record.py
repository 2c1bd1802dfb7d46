"""The result of the last verification of the store, from the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import sqlalchemy as sa

_SQL: Final = load_statements("verification/verification_record.sql")


@dataclass(frozen=True, slots=True)
class VerificationRecord:
    """The newest verification that reached its end, if any, and whether one was due.

    Attributes:
        ended_at: When it ended; None if there has been none.
        n_objects: Objects that were read.
        n_damaged: Of n_objects, those that were damaged.
        n_left: Of n_damaged, those that could not be healed.
        age_days: Days since it ended; without one, since the first night was read. None if there is no night either.
    """

    ended_at: datetime | None
    n_objects: int
    n_damaged: int
    n_left: int
    age_days: float | None


def last_verification(connection: sa.Connection) -> VerificationRecord:
    """Returns the result of the newest verification that reached its end."""
    return VerificationRecord(*connection.execute(_SQL["last"]).one())
