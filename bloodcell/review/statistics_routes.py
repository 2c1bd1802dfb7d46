"""The page of the statistics."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Final

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from bloodcell.results.judging import REVIEW_NAMES, WITHHELD_NAMES
from bloodcell.review.desk_statistics import (
    IDLE_S,
    MAX_DAYS,
    PeriodError,
    Statistics,
    read_period,
    read_statistics,
)
from bloodcell.review.navigation import desk_page
from bloodcell.review.people import name_key
from bloodcell.review.reader_agreement import MIN_SHARED
from bloodcell.review.services import services_of, session_of
from bloodcell.review.writing import RightMissingError

if TYPE_CHECKING:
    from bloodcell.review.people import Person

router: Final = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=200)]
_NOT_A_DAY: Final = "Give days as 2026-11-28."


@router.get("/statistics")
def statistics(
    request: Request, first: Annotated[str, Query(alias="from", max_length=40)] = "",
    last: Annotated[str, Query(alias="to", max_length=40)] = "", person: Text = "",
) -> HTMLResponse:  # fmt: skip
    """Shows what people at the desk do, in numbers: of the laboratory, or of one person."""
    services, session = services_of(request), session_of(request)
    sees_all = session.person.may("senior") or session.person.may("administrator")
    asked = person.strip() or None
    if asked and not sees_all and not _is_own(session.person, asked):
        raise RightMissingError("Only seniors and administrators see the figures of other people.")
    days, problem = _days(first, last)

    def read(connection: sa.Connection) -> tuple[Statistics, str | None]:
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        told = problem
        try:
            period = read_period(connection, *days)
        except PeriodError as error:
            period, told = read_period(connection, None, None), str(error)
        return read_statistics(connection, period, asked), told

    found, told = services.desk.transact(read)
    own = session.person.name
    text = services.catalogue(request).text
    readers = [each for each in found.readers if sees_all or _is_own(session.person, each.name)]
    of_people = [(each.name, each.minutes) for each in readers if each.minutes.n and not asked]
    return desk_page(
        request,
        "statistics.html.j2",
        "/statistics",
        status=422 if told else 200,
        found=found,
        problem=told,
        chosen=asked,
        sees_all=sees_all,
        own=own,
        readers=readers,
        boxes=[(asked or text("the laboratory"), found.minutes), *of_people],
        pairs=[
            pair
            for pair in found.pairs
            if sees_all or _is_own(session.person, pair.one) or _is_own(session.person, pair.other)
        ],
        is_own=lambda name: _is_own(session.person, name),
        reason_names={**REVIEW_NAMES, **WITHHELD_NAMES},
        idle_min=IDLE_S // 60,
        max_days=MAX_DAYS,
        min_shared=MIN_SHARED,
    )


def _is_own(person: Person, name: str) -> bool:
    return name_key(person.name) == name_key(name)


def _days(first: str, last: str) -> tuple[tuple[date | None, date | None], str | None]:
    """Returns the days that were asked for, and what is wrong with them."""
    try:
        days = tuple(date.fromisoformat(text.strip()) if text.strip() else None for text in (first, last))
    except ValueError:
        return (None, None), _NOT_A_DAY
    if any(day is not None and not 2000 <= day.year < 2200 for day in days):
        return (None, None), _NOT_A_DAY
    return (days[0], days[1]), None
