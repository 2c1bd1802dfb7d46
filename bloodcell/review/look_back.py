"""Looks back on a slide: the versions of its result, every action, and who said what of a cell."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import UnknownRecordError
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import sqlalchemy as sa

    from bloodcell.results.stored_result import SlideResult

_SQL: Final = load_statements("review/look_back.sql")

MOST_ACTIONS: Final = 1000
"""Actions on one page, the newest; a slide of 200 cells with twelve corrections has about twenty."""

ACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "opened": "opened the slide",
        "label": "labelled",
        "blind_label": "labelled, read blind",
        "label_taken_back": "took the own label back",
        "adjudication": "adjudicated",
        "comment": "commented",
        "version": "version made",
        "signed": "signed",
        "withdraw": "slide withdrawn",
        "rename": "cells moved to another slide",
        "restore": "withdrawal undone",
    }
)
"""Action as the database names it -> in words."""

_ABOUT_CELLS: Final = ("label", "blind_label", "label_taken_back", "adjudication", "comment")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that somebody did, or a version that a run made.

    Attributes:
        at: When.
        person: Who; None for a run.
        action: One of ACTIONS.
        cell_id: The cell, if it is about one.
        file_name: Its file; of `rename`, the slide to which the cells were moved.
        label: What the person labelled the cell.
        text: Comment, note of a label, reason of a signature or of a withdrawal.
        session_id: Session of the review desk; None for what came in another way.
        version: Version of the result.
        method: How the person had logged in to the session.
        session_opened_at: When.
    """

    at: datetime
    person: str | None
    action: str
    cell_id: int | None
    file_name: str | None
    label: str | None
    text: str | None
    session_id: int | None
    version: int | None
    method: str | None
    session_opened_at: datetime | None


@dataclass(frozen=True, slots=True)
class CellHistory:
    """A cell with everything that was said of it, the oldest first.

    Attributes:
        cell_id: Key of the cell.
        file_name: Name within the slide's folder.
        has_image: False once its image has been removed because of its age.
        analyser_code: The analyser's code.
        called: The call of the model that is reported; None for a cell without a call.
        unclassified_reason: novel or low_confidence.
        resembles: The code out of scope that it resembles, where the model knows one.
        line: What the cell counts as now.
        actions: Labels, comments and adjudications.
    """

    cell_id: int
    file_name: str
    has_image: bool
    analyser_code: str | None
    called: str | None
    unclassified_reason: str | None
    resembles: str | None
    line: str | None
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class LookBack:
    """A slide's past.

    Attributes:
        slide: The slide, also a withdrawn one.
        versions: Its versions, the newest first.
        actions: The actions that were asked for, the newest first; at most MOST_ACTIONS.
        n_found: All that were found.
        n_actions: All actions of the slide.
        people: Everybody who did something.
        cells: The cells that people labelled or commented on, or the one that was asked for.
    """

    slide: Any
    versions: tuple[Any, ...]
    actions: tuple[Action, ...]
    n_found: int
    n_actions: int
    people: tuple[str, ...]
    cells: tuple[CellHistory, ...]


@dataclass(frozen=True, slots=True)
class SignedWhere:
    """The session in which a version was signed at the desk."""

    session_id: int
    method: str
    opened_at: datetime


def look_back(
    connection: sa.Connection, slide_id: int, *, person: str = "", kind: str = "", cell_id: int | None = None
) -> LookBack:
    """Returns the past of a slide.

    Args:
        connection: The database, in one snapshot.
        slide_id: The slide.
        person: Only actions of this person; empty: of all.
        kind: Only actions of this kind; empty: all.
        cell_id: Only this cell and what was done with it; None: all.

    Raises:
        UnknownRecordError: There is no such slide or cell.
    """
    of_slide = {"slide_id": slide_id}
    slide = connection.execute(_SQL["slide"], of_slide).one_or_none()
    if slide is None:
        raise UnknownRecordError("There is no such slide.")
    everything = [Action(**row._mapping) for row in connection.execute(_SQL["actions"], of_slide)]
    found = [
        each
        for each in everything
        if person in ("", each.person) and kind in ("", each.action) and cell_id in (None, each.cell_id)
    ]
    return LookBack(
        slide=slide,
        versions=tuple(reversed(connection.execute(_SQL["versions"], of_slide).all())),
        actions=tuple(found[:MOST_ACTIONS]),
        n_found=len(found),
        n_actions=len(everything),
        people=tuple(sorted({each.person for each in everything if each.person})),
        cells=_cells(connection, slide_id, everything, cell_id),
    )


def barcode_of(connection: sa.Connection, slide_id: int) -> str:
    """Returns the barcode that a slide has or had.

    Raises:
        UnknownRecordError: There is no such slide.
    """
    slide = connection.execute(_SQL["slide"], {"slide_id": slide_id}).one_or_none()
    if slide is None:
        raise UnknownRecordError("There is no such slide.")
    return str(slide.barcode)


def slide_comments(connection: sa.Connection, result: SlideResult) -> Sequence[sa.Row[Any]]:
    """Returns what was said of the slide as a whole until this version was made."""
    if result.version is None:
        return ()
    asked = {"slide_id": result.slide.slide_id, "until": result.version.made_at}
    return connection.execute(_SQL["comments"], asked).all()


def signed_where(connection: sa.Connection, result: SlideResult) -> SignedWhere | None:
    """Returns the session in which a version was signed; None if it was not signed at the desk."""
    if result.version is None or not result.version.is_signed:
        return None
    asked = {"slide_id": result.slide.slide_id, "version": result.version.number}
    row = connection.execute(_SQL["signature"], asked).one_or_none()
    return None if row is None or row.session_id is None else SignedWhere(*row)


def _cells(
    connection: sa.Connection, slide_id: int, actions: Sequence[Action], asked: int | None
) -> tuple[CellHistory, ...]:
    of_cell: dict[int, list[Action]] = {}
    for each in reversed(actions):
        if each.cell_id is not None and each.action in _ABOUT_CELLS:
            of_cell.setdefault(each.cell_id, []).append(each)
    wanted = sorted(of_cell) if asked is None else [asked]
    rows = connection.execute(_SQL["cells"], {"slide_id": slide_id, "cells": wanted}).all()
    if asked is not None and not rows:
        raise UnknownRecordError("The slide has no such cell.")
    return tuple(
        CellHistory(
            cell_id=row.cell_id,
            file_name=row.file_name,
            has_image=row.has_image,
            analyser_code=row.analyser_code,
            called=row.called_class,
            unclassified_reason=row.unclassified_reason,
            resembles=row.resembles,
            line=row.line,
            actions=tuple(of_cell.get(row.cell_id, ())),
        )
        for row in rows
    )
