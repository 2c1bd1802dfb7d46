"""Nights and slides with the state of their results, the most urgent first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from bloodcell.results.judging import flag_names, reason_names
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    import sqlalchemy as sa

    from bloodcell.storage.database import Database

_SQL: Final = load_statements("results/slide_list.sql")
_LISTED_DAYS: Final = 30
"""Listing 25,000 slides takes two seconds, because the cells of each are counted; a month of 2,500 takes 0.2 s."""


@dataclass(frozen=True, slots=True)
class ListedNight:
    """A night, with the number of its slides by state; the view night_summary describes the numbers."""

    night: date
    completed_at: datetime | None
    n_slides: int
    n_slides_reported: int
    n_slides_withheld: int
    n_slides_signed: int
    n_slides_differing: int
    n_slides_differing_withheld: int
    n_slides_withdrawn: int
    n_quarantined: int


@dataclass(frozen=True, slots=True)
class ListedSlide:
    """A slide that stands, with what a person has to know to choose the next one.

    Attributes:
        barcode: Its barcode.
        night: Its night.
        status: Whether it is reported, and what is missing where it is not.
        version: Version of the result that counts; None without one.
        state: State of that version.
        newest_state: State of the newest version.
        withheld_for: Why the percentages of its newest version are, or were until it was signed, withheld.
        review_for: Review rules that name its newest version.
        newest_version: Newest version; it waits for a person if it is newer than `version`.
        n_cells: Its cells.
        n_out_of_scope: Cells that the analyser coded outside the eight classes.
        reported_at: When it was counted.
        n_blasts: Cells of the newest version that the analyser or a person coded as a blast.
        n_leucocytes: Leucocytes counted.
        n_unclassified: Cells that may be leucocytes and have no name.
        flags: Line -> low or high in the newest version; possible flags are not listed.
        signed_by: Who signed the version that counts; None if nobody has.
        slide_id: Key of the slide.
        analyser: The analyser that imaged it.
    """

    barcode: str
    night: date
    status: str
    version: int | None
    state: str | None
    newest_state: str | None
    withheld_for: list[str] | None
    review_for: list[str] | None
    newest_version: int | None
    n_cells: int
    n_out_of_scope: int
    reported_at: datetime | None
    n_blasts: int | None
    n_leucocytes: int | None
    n_unclassified: int | None
    flags: Mapping[str, str]
    signed_by: str | None
    slide_id: int
    analyser: str | None

    @property
    def why(self) -> str:
        """Why a person should look at it, as one text: no rule or flag once its newest version is signed."""
        reasons = [] if self.status == "reported" else [self.status]
        if self.newest_state in ("machine", "withheld"):
            reasons += [*reason_names(self.withheld_for or (), self.review_for or ()).values(), *flag_names(self.flags)]
        return ", ".join(reasons)


def list_nights(database: Database, *, most: int | None = None) -> list[ListedNight]:
    """Returns the nights, the newest first.

    Args:
        database: The database.
        most: At most this many; None: all.
    """
    rows = database.transact(lambda c: c.execute(_SQL["nights"], {"most": most}).all(), patience_s=0)
    return [ListedNight(**row._mapping) for row in rows]


def first_listed_night(database: Database) -> date | None:
    """Returns the first night of the month that ends with the newest night; None without a slide."""
    newest: date | None = database.transact(lambda c: c.execute(_SQL["newest_night"]).scalar_one(), patience_s=0)
    return newest and newest - timedelta(days=_LISTED_DAYS)


def list_slides(
    database: Database,
    *,
    night: date | None = None,
    since: date | None = None,
    state: str | None = None,
    most: int | None = None,
) -> list[ListedSlide]:
    """Returns the slides that stand, the most urgent first.

    Args:
        database: The database.
        night: Only slides of this night; None: of all nights.
        since: Only slides of this night and later ones; None: of all nights.
        state: Only slides whose result, or whose newest version, has this state; None: all, also without a result.
        most: At most this many; None: all.
    """
    return database.transact(lambda c: slides_in(c, night=night, since=since, state=state, most=most), patience_s=0)


def slides_in(
    connection: sa.Connection,
    *,
    night: date | None = None,
    since: date | None = None,
    state: str | None = None,
    most: int | None = None,
) -> list[ListedSlide]:
    """Returns what `list_slides` returns, in a transaction that the caller has begun."""
    values = {"night": night, "since": since, "state": state, "most": most}
    return [ListedSlide(**row._mapping) for row in connection.execute(_SQL["slides"], values)]
