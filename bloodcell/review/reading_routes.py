"""Reading without a call in sight: the nights' random samples, second reads, and contested cells.

Of a cell that is read blind the browser gets a picture, and a number that says nothing, not even in which order cells
came.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import UUID4, BaseModel, Field

from bloodcell.errors import UnknownRecordError
from bloodcell.results.result_display import line_name
from bloodcell.review.desk_records import Outcome
from bloodcell.review.navigation import desk_page
from bloodcell.review.second_readings import second_readings
from bloodcell.review.services import services_of, session_of
from bloodcell.review.slide_page import line_choices
from bloodcell.review.slide_routes import Code, Key, Said, Strict, picture
from bloodcell.review.writing import require_role
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection

    from bloodcell.review.people import Role
    from bloodcell.review.services import Services
    from bloodcell.review.sessions import Session

router: Final = APIRouter()

_SQL: Final = load_statements("review/reading_routes.sql")
_MOST: Final = 200
"""Cells of one page of a blind reading; the rest comes with the next one."""
Mode = Literal["sample", "second"]


class Reading(Strict):
    """What a person says of a cell that was read blind."""

    key: UUID4
    cell_id: Key
    label: Code


class Readings(Strict):
    """Readings of a sample, or second readings."""

    mode: Mode = "sample"
    changes: list[Reading] = Field(min_length=1, max_length=500)


class Decision(Strict):
    """What a contested cell is."""

    key: UUID4
    cell_id: Key
    label: Code
    note: Said | None = Field(None, max_length=1000)
    seen: Key | None = None


class Decisions(Strict):
    """Decisions on contested cells."""

    changes: list[Decision] = Field(min_length=1, max_length=500)


class Outcomes(BaseModel):
    """What became of each change."""

    outcomes: list[Outcome]


@router.get("/blind", include_in_schema=False)
def blind_page(request: Request) -> HTMLResponse:
    """Shows the cells of the random samples that the person can read blind."""
    return _reading_page(request, "sample")


@router.get("/second", include_in_schema=False)
def second_page(request: Request) -> HTMLResponse:
    """Shows the cells that a second person has to read."""
    return _reading_page(request, "second")


@router.get("/blind/cells/{number}/image", include_in_schema=False)
def blind_image(request: Request, number: Key) -> Response:
    """Returns the picture of a cell that the person reads blind."""
    return _blind_picture(request, "sample", number)


@router.get("/second/cells/{number}/image", include_in_schema=False)
def second_image(request: Request, number: Key) -> Response:
    """Returns the picture of a cell that the person reads second."""
    return _blind_picture(request, "second", number)


@router.post("/api/blind")
def read_blind(request: Request, readings: Readings) -> Outcomes:
    """Stores blind readings; each is stored once."""
    services, session = services_of(request), session_of(request)
    require_role(session.person, _role(readings.mode))
    cells = _cells_of(services, session, readings.mode, {each.cell_id for each in readings.changes})
    known = [each for each in readings.changes if each.cell_id in cells]
    asked = [{"key": str(each.key), "cell_id": cells[each.cell_id], "label": each.label} for each in known]
    kind: Literal["blind", "second"] = "blind" if readings.mode == "sample" else "second"
    stored = {each.key: each for each in services.writer.label(session, kind, asked)} if asked else {}
    _settle(services, {cells[each.cell_id] for each in known})
    gone = "This cell no longer waits for your reading."
    return Outcomes(
        outcomes=[
            Outcome(str(each.key), each.cell_id, found.outcome, found.text)
            if (found := stored.get(str(each.key)))
            else Outcome(str(each.key), each.cell_id, "refused", gone)
            for each in readings.changes
        ]
    )


@router.get("/adjudication", include_in_schema=False)
def adjudication_page(request: Request) -> HTMLResponse:
    """Shows the contested cells that the person may settle."""
    services, session = services_of(request), session_of(request)
    require_role(session.person, "senior")
    disputes: dict[int, dict[str, Any]] = {}
    for row in services.desk.transact(lambda c: c.execute(_SQL["disputes"], {"person": session.person.name}).all()):
        dispute = disputes.setdefault(
            row.cell_id,
            {
                "cell_id": row.cell_id,
                "slide": {"slide_id": row.slide_id, "barcode": row.barcode},
                "image": f"/slides/{row.slide_id}/cells/{row.cell_id}/image",
                "labels": [],
                "seen": row.seen,
            },
        )
        at = row.labelled_at.isoformat()
        dispute["labels"].append(
            {"by": row.labelled_by, "label": row.label, "name": line_name(row.label), "note": row.note, "at": at}
        )
    cells = list(disputes.values())[:_MOST]
    for slide_id in {cell["slide"]["slide_id"] for cell in cells}:
        services.writer.open_slide(session, slide_id)  # the page shows labels: none of them can be read blind any more
    lines = [asdict(each) for each in line_choices()]
    return desk_page(
        request,
        "adjudicate.html.j2",
        "/adjudication",
        disputes={"cells": cells, "lines": lines},
    )


@router.post("/api/adjudications")
def adjudicate(request: Request, decisions: Decisions) -> Outcomes:
    """Settles contested cells; each decision is stored once."""
    asked = [each.model_dump(mode="json") for each in decisions.changes]
    services = services_of(request)
    outcomes = services.writer.label(session_of(request), "adjudication", asked)
    _settle(services, {each.cell_id for each in decisions.changes})
    return Outcomes(outcomes=outcomes)


def _reading_page(request: Request, mode: Mode) -> HTMLResponse:
    services, session = services_of(request), session_of(request)
    require_role(session.person, _role(mode))
    if mode == "sample":
        sample = _sample(services, session)
        waiting = [row for row in sample if row.is_waiting]
        n_done = sum(row.is_read_by_person for row in sample)
    else:
        waiting, n_done = _second(services, session), 0
    address = "blind" if mode == "sample" else "second"
    numbered = [_number(session, row) for row in waiting[:_MOST]]
    blind = {
        "mode": mode,
        "cells": [{"cell_id": number, "image": f"/{address}/cells/{number}/image"} for number in numbered],
        "lines": [asdict(each) for each in line_choices()],
        "n_wanted": len(waiting) + n_done,
        "n_done": n_done,
    }
    return desk_page(request, "blind.html.j2", f"/{address}", blind=blind)


def _blind_picture(request: Request, mode: Mode, number: int) -> Response:
    services, session = services_of(request), session_of(request)
    require_role(session.person, _role(mode))
    of_number = _cells_of(services, session, mode, {number}).values()
    if mode == "sample":
        waiting = [row for row in _sample(services, session, of_number) if row.is_waiting]
    else:
        waiting = [row for row in _second(services, session) if row.cell_id in of_number]
    if waiting:
        return picture(services, waiting[0].sha256)
    raise HTTPException(404, "This cell no longer waits for your reading.")


def _sample(services: Services, session: Session, only: Collection[int] | None = None) -> list[Any]:
    """Returns the cells of the random samples, or those in `only`, and whether each waits for the person."""
    asked = {"person": session.person.name, "cells": None if only is None else list(only)}
    return list(services.desk.transact(lambda c: c.execute(_SQL["sample"], asked).all()))


def _second(services: Services, session: Session) -> list[Any]:
    """Returns the cells that wait for a second reading by the person."""
    return list(services.desk.transact(lambda c: second_readings(c, session.person, services.rules)))


def _cells_of(services: Services, session: Session, mode: Mode, numbers: Collection[int]) -> dict[int, int]:
    """Returns number -> cell id, as far as the person's browser may know of these cells."""
    if mode == "sample":
        rows = list(services.desk.transact(lambda c: c.execute(_SQL["sampled"]).all()))
    else:
        asked = {"person": session.person.name}
        lately = services.desk.transact(lambda c: c.execute(_SQL["read_lately"], asked).all())
        rows = [*_second(services, session), *lately]
    numbered = {_number(session, row): row.cell_id for row in rows}
    return {number: numbered[number] for number in numbers if number in numbered}


def _number(session: Session, row: Any) -> int:
    """Returns the number by which a person's browser knows a cell.

    It is the same in the person's next session, so that a reading that was not sent is sent then.
    """
    told = hashlib.sha256(f"{row.sha256} {row.cell_id} {session.person.name}".encode()).digest()
    return int.from_bytes(told[:6], "big") + 1


def _settle(services: Services, cells: Collection[int]) -> None:
    """Counts the slides of these cells where that makes them withheld, or changes what was signed."""
    slides = services.desk.transact(lambda c: c.scalars(_SQL["slides"], {"cells": list(cells)}).all())
    for slide_id in slides:
        with suppress(UnknownRecordError):  # withdrawn meanwhile
            services.writer.settle(slide_id, services.slides.live(slide_id)[1])


def _role(mode: Mode) -> Role:
    return "reader" if mode == "sample" else "senior"
