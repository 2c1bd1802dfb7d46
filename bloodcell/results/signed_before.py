"""Results that were signed before the quality control of their night failed: they stay in force, and say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import sqlalchemy as sa

_SQL: Final = load_statements("results/signed_before.sql")


def n_signed_before(connection: sa.Connection) -> dict[int, int]:
    """Returns check id -> slides that a failed check holds and whose result had been signed.

    Args:
        connection: Where to read; the login may be one that reads only views.
    """
    return {row.check_id: row.n_signed for row in connection.execute(_SQL["n_signed"])}


def holds_of(connection: sa.Connection, slide_id: int) -> tuple[str, ...]:
    """Returns the reasons for which the quality control holds a slide now, also if it was signed before.

    Args:
        connection: Where to read; the login may be one that reads only views.
        slide_id: The slide.
    """
    return tuple(row.reason for row in connection.execute(_SQL["holds"], {"slide_id": slide_id}))
