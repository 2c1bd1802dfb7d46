"""What a slide's result would be if it were counted now.

The slide is counted as every slide is, in a transaction that is undone. So what a person sees before signing is what
will be signed, to the last digest, and a correction makes no version of its own.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.results.due_results import count_slides
from bloodcell.results.stored_result import find_slide, result_of
from bloodcell.storage import tables
from bloodcell.storage.runs import code_version

if TYPE_CHECKING:
    from bloodcell.differential.laboratory_rules import LaboratoryRules
    from bloodcell.results.stored_result import SlideResult
    from bloodcell.storage.database import Database

_NEWEST: Final = sa.text(
    "SELECT number, report_id, digest, signed_by FROM bloodcell.newest_version WHERE slide_id = :slide_id"
)
_MISSING: Final = sa.text("SELECT what, told, n FROM bloodcell.missing_for_signature(:slide_id, :report_id)")


@dataclass(frozen=True, slots=True)
class LiveResult:
    """A slide's result as it would be counted now.

    Attributes:
        result: The newest version, which may not exist outside the transaction.
        digest: What it was made from; None for one of before schema 0010.
        is_signed: Whether it is a signed version, so that there is nothing to sign.
        was_signed: Whether an earlier version was signed.
        missing: (what, in words, number) of what has to be done before it can be signed.
    """

    result: SlideResult
    digest: str | None
    is_signed: bool
    was_signed: bool
    missing: tuple[tuple[str, str, int], ...]


class _Undone(Exception):
    """Ends a transaction that only looked."""


def live_result(database: Database, slide_id: int, barcode: str, rules: LaboratoryRules) -> LiveResult | None:
    """Returns the result that a count of now would give; None for a slide that no champion has called completely.

    Args:
        database: The database, as role `bloodcell_app`.
        slide_id: The slide.
        barcode: Its barcode.
        rules: The laboratory's rules.
    """
    found: list[LiveResult | None] = []

    def look(connection: sa.Connection) -> None:
        found.clear()
        run_id = uuid.uuid4()
        run = {"run_id": run_id, "stage": "differential", "code_version": code_version(), "host": "review desk"}
        connection.execute(sa.insert(tables.run), run)
        count_slides(connection, [slide_id], run_id=run_id, rules=rules)
        found.append(_read(connection, slide_id, barcode))
        raise _Undone

    with suppress(_Undone):
        database.transact(look)
    return found[0]


def _read(connection: sa.Connection, slide_id: int, barcode: str) -> LiveResult | None:
    newest = connection.execute(_NEWEST, {"slide_id": slide_id}).one_or_none()
    if newest is None:
        return None
    slide = find_slide(connection, barcode)
    missing: list[Any] = connection.execute(_MISSING, {"slide_id": slide_id, "report_id": newest.report_id}).all()  # type: ignore[assignment]
    result = result_of(connection, slide, version=newest.number)
    return LiveResult(
        result=result,
        digest=newest.digest,
        is_signed=newest.signed_by is not None,
        was_signed=any(each.is_signed for each in result.versions),
        missing=tuple((row.what, row.told, int(row.n)) for row in missing),
    )
