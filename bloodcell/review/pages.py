"""The worklist."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from bloodcell.review.navigation import navigation
from bloodcell.review.services import services_of, session_of
from bloodcell.review.worklist import Filter, read_worklist

router: Final = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=200)]
_STATES: Final = (
    ("open", "waiting for a signature"),
    ("withheld", "withheld"),
    ("machine", "machine result"),
    ("differs", "differs from what was signed"),
    ("signed", "signed"),
    ("all", "all"),
)


@router.get("/")
def worklist_page(
    request: Request,
    night: Text = "",
    analyser: Text = "",
    state: Text = "open",
    flag: Text = "",
    mine: Text = "",
    barcode: Text = "",
) -> HTMLResponse:
    """Shows the slides that wait for a person, the most urgent first."""
    services, session = services_of(request), session_of(request)
    chosen = Filter(night, analyser, state, flag, mine == "yes", barcode.strip())
    text = services.catalogue(request).text
    listed = services.desk.transact(lambda c: read_worklist(c, chosen, session.person.name))
    items = navigation(services, session, "/", text)
    body = services.page(
        "worklist.html.j2",
        request,
        worklist=listed,
        chosen=chosen,
        filter_states=_STATES,
        n_blind=next((item.n for item in items if item.href == "/blind"), 0),
        navigation=items,
    )
    return HTMLResponse(body)
