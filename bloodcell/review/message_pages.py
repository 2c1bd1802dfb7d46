"""The messages to other systems: what waits, what was rejected, and what a senior decides about it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bloodcell.exchange.message_list import read_messages
from bloodcell.review.guards import require_form
from bloodcell.review.navigation import desk_page
from bloodcell.review.services import services_of, session_of
from bloodcell.review.writing import require_role

router: Final = APIRouter(include_in_schema=False)


@router.get("/messages")
def messages_page(request: Request) -> HTMLResponse:
    """Shows the receivers of results, and the messages that wait or were rejected."""
    services, session = services_of(request), session_of(request)
    found = read_messages(services.desk)
    return desk_page(
        request,
        "messages.html.j2",
        "/messages",
        receivers=found.receivers,
        messages=found.messages,
        may_decide=session.person.may("senior"),
    )


@router.post("/messages/decide")
def decide(
    request: Request,
    message: Annotated[int, Form(ge=1, lt=2**63)],
    action: Annotated[Literal["replay", "skip"], Form()],
    reason: Annotated[str, Form(min_length=1, max_length=500, pattern=r"^[^\x00]*$")],
    csrf: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Has a rejected message sent again, or never."""
    services, session = services_of(request), session_of(request)
    require_form(session, csrf)
    require_role(session.person, "senior")
    services.writer.decide_on_message(session, message, action, reason)
    return RedirectResponse("/messages", 303)
