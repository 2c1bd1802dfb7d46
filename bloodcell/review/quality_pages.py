"""The quality control: what it holds, the charts of each analyser, and a senior's override."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bloodcell.quality.external_rounds import read_rounds
from bloodcell.quality.moving_figures import LEVELS
from bloodcell.quality.quality_status import read_quality
from bloodcell.results.signed_before import n_signed_before
from bloodcell.review.guards import require_form
from bloodcell.review.navigation import desk_page
from bloodcell.review.people import name_key
from bloodcell.review.services import services_of, session_of
from bloodcell.review.writing import require_role

if TYPE_CHECKING:
    from bloodcell.quality.external_rounds import ExternalRound
    from bloodcell.review.people import Person

router: Final = APIRouter(include_in_schema=False)


@router.get("/quality")
def quality_page(request: Request) -> HTMLResponse:
    """Shows what is held and why, the moving figures of each analyser, and the external rounds."""
    services, session = services_of(request), session_of(request)
    found = read_quality(services.desk)
    return desk_page(
        request,
        "quality.html.j2",
        "/quality",
        failed=found.failed,
        signed_before=services.desk.transact(n_signed_before),
        overrides=found.overrides,
        analysers=tuple(dict.fromkeys(chart.analyser for chart in found.charts)),
        charts=found.charts,
        levels=tuple(LEVELS),
        rounds=[_for(session.person, each) for each in read_rounds(services.desk)],
        may_override=session.person.may("senior"),
    )


def _for(person: Person, found: ExternalRound) -> ExternalRound:
    """Returns a round with the scores that a person may see: of other people only seniors and administrators do."""
    if person.may("senior") or person.may("administrator"):
        return found
    own = name_key(person.name)
    scores = tuple(each for each in found.scores if each.model_id or name_key(each.reader) == own)
    return replace(found, scores=scores)


@router.post("/quality/override")
def override(
    request: Request,
    check: Annotated[int, Form(ge=1, lt=2**63)],
    reason: Annotated[str, Form(min_length=1, max_length=500, pattern=r"^[^\x00]*$")],
    csrf: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Releases what a failed check holds."""
    services, session = services_of(request), session_of(request)
    require_form(session, csrf)
    require_role(session.person, "senior")
    services.writer.override_check(session, check, reason)
    return RedirectResponse("/quality", 303)
