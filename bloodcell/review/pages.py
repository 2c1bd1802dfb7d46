"""The worklist."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from bloodcell.review.navigation import desk_page
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
    listed = services.desk.transact(lambda c: read_worklist(c, chosen, session.person.name))
    return desk_page(
        request,
        "worklist.html.j2",
        worklist=listed,
        chosen=chosen,
        filter_states=_STATES,
    )
