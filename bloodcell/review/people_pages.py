"""Who is logged in; an administrator can end other people's sessions."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bloodcell.review.guards import require_form
from bloodcell.review.navigation import desk_page
from bloodcell.review.services import services_of, session_of
from bloodcell.review.writing import require_role
from bloodcell.storage.statements import load_statements

router: Final = APIRouter(include_in_schema=False)

_SQL: Final = load_statements("review/people_pages.sql")
_MOST: Final = 200


@router.get("/sessions")
def sessions_page(request: Request) -> HTMLResponse:
    """Shows who is logged in, and the last sessions that have ended."""
    services, session = services_of(request), session_of(request)
    require_role(session.person, "administrator")
    rows = services.desk.transact(lambda c: c.execute(_SQL["sessions"], {"most": _MOST}).all())
    return desk_page(
        request,
        "sessions.html.j2",
        "/sessions",
        sessions=rows,
        own=session.session_id,
    )


@router.post("/sessions/end")
def end_sessions(
    request: Request,
    person: Annotated[str, Form(max_length=200, pattern=r"^[^\x00]*$")],
    csrf: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Ends all sessions of a person."""
    services, session = services_of(request), session_of(request)
    require_form(session, csrf)
    require_role(session.person, "administrator")
    services.sessions.end_of(session, person)
    return RedirectResponse("/sessions", 303)
