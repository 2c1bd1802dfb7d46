"""The worklist: slides that wait for a person, the most urgent first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from bloodcell.results.judging import flag_names, reason_names
from bloodcell.results.slide_list import ListedSlide, slides_in
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    import sqlalchemy as sa

_SQL: Final = load_statements("review/worklist.sql")
_OPEN_DAYS: Final = 30
"""Nights that the worklist looks at, up to the newest; older slides are found by their barcode."""
MOST: Final = 500
SIGNED: Final = ("final", "amended", "corrected")
STATES: Final = ("open", "withheld", "machine", "differs", "signed", "all")


@dataclass(frozen=True, slots=True)
class Filter:
    """What the person wants to see; an empty text: all.

    Attributes:
        night: ISO date.
        analyser: Its name.
        state: One of STATES; open: not signed, or signed and different by now.
        flag: A reason for review, or a flag of a class such as "neutrophil low".
        mine: Only slides that the person has.
        barcode: Begins with this.
    """

    night: str = ""
    analyser: str = ""
    state: str = "open"
    flag: str = ""
    mine: bool = False
    barcode: str = ""


@dataclass(frozen=True, slots=True)
class WaitingSlide:
    """One row of the worklist.

    Attributes:
        slide: The slide as the list of slides has it.
        state: State that a person sees: of the newest version, or why there is none.
        reasons: Why a person should look, each with whether it withholds the result.
        flags: Sure flags.
        n_left: Cells that a person has to look at before it can be signed.
        holder: Who works on it now.
        n_people: People who have labelled cells of it.
    """

    slide: ListedSlide
    state: str
    reasons: tuple[tuple[str, bool], ...]
    flags: tuple[str, ...]
    n_left: int
    holder: str | None
    n_people: int

    @property
    def is_done(self) -> bool:
        """Whether the newest version is signed."""
        return self.slide.newest_state in SIGNED


@dataclass(frozen=True, slots=True)
class Worklist:
    """The slides that were chosen, and what can be chosen.

    Attributes:
        rows: The slides, the most urgent first; at most MOST.
        n_found: All that were found.
        n_open: Slides of the last thirty nights that wait for a signature.
        n_signed: Slides of the last thirty nights whose newest version is signed.
        nights: Nights, the newest first.
        analysers: Analysers.
        flags: Reasons and flags that occur.
    """

    rows: tuple[WaitingSlide, ...]
    n_found: int
    n_open: int
    n_signed: int
    nights: tuple[date, ...]
    analysers: tuple[str, ...]
    flags: tuple[str, ...]


def read_worklist(connection: sa.Connection, chosen: Filter, person: str) -> Worklist:
    """Returns the slides that a person asked for.

    Args:
        connection: The database.
        chosen: The filter.
        person: Who asks.
    """
    newest = connection.execute(_SQL["newest_night"]).scalar_one()
    since = newest - timedelta(days=_OPEN_DAYS) if newest and not chosen.barcode else None
    facts: dict[int, Any] = {row.slide_id: row for row in connection.execute(_SQL["facts"], {"since": since})}
    everything = [
        _row(slide, facts.get(slide.slide_id))
        for slide in slides_in(connection, since=since)
        if not (slide.slide_id in facts and facts[slide.slide_id].is_control)  # nobody signs it
    ]
    found = [row for row in everything if _is_chosen(row, chosen, person)]
    return Worklist(
        rows=tuple(found[:MOST]),
        n_found=len(found),
        n_open=sum(not row.is_done for row in everything),
        n_signed=sum(row.is_done for row in everything),
        nights=tuple(sorted({row.slide.night for row in everything}, reverse=True)),
        analysers=tuple(sorted({row.slide.analyser for row in everything if row.slide.analyser})),
        flags=tuple(sorted({name for row in everything if not row.is_done for name in _names(row)})),
    )


def _row(slide: ListedSlide, facts: Any) -> WaitingSlide:
    is_done = slide.newest_state in SIGNED
    withheld, review = (() if is_done else slide.withheld_for or ()), (() if is_done else slide.review_for or ())
    return WaitingSlide(
        slide=slide,
        state=slide.newest_state or slide.status,
        reasons=tuple((text, name in withheld) for name, text in reason_names(withheld, review).items()),
        flags=() if is_done else tuple(flag_names(slide.flags)),
        n_left=0 if is_done else (slide.n_unclassified or 0) + (facts.n_unverified if facts else 0),
        holder=facts.holder if facts else None,
        n_people=facts.n_people if facts else 0,
    )


def _is_chosen(row: WaitingSlide, chosen: Filter, person: str) -> bool:
    slide = row.slide
    differs = row.slide.state in SIGNED and not row.is_done
    states = {
        "open": not row.is_done,
        "withheld": slide.newest_state == "withheld",
        "machine": slide.newest_state == "machine",
        "differs": differs,
        "signed": row.is_done,
    }
    return (
        states.get(chosen.state, True)
        and chosen.night in ("", slide.night.isoformat())
        and chosen.analyser in ("", slide.analyser)
        and (not chosen.flag or chosen.flag in _names(row))
        and (not chosen.mine or (row.holder or "").lower() == person.lower())
        and slide.barcode.lower().startswith(chosen.barcode.lower())
    )


def _names(row: WaitingSlide) -> Iterable[str]:
    return (*(text for text, _ in row.reasons), *row.flags)
