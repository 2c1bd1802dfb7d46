"""The pages that look back: a slide's history, each version of its result, and what was reported on a date."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response

from bloodcell.differential.laboratory_rules import age_text
from bloodcell.differential.reference_ranges import FLAG_NAMES
from bloodcell.results.judging import reason_names
from bloodcell.results.signed_before import holds_of
from bloodcell.results.stored_result import find_slide, result_of
from bloodcell.review.look_back import ACTIONS, barcode_of, look_back, signed_where, slide_comments
from bloodcell.review.navigation import desk_page
from bloodcell.review.reported_results import parse_moment, read_reported, reported_csv
from bloodcell.review.services import services_of, session_of
from bloodcell.storage.runs import code_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from bloodcell.review.look_back import LookBack
    from bloodcell.review.services import Services

router: Final = APIRouter(include_in_schema=False)

Key = Annotated[int, Path(ge=1, le=2**63 - 1)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Cell = Annotated[str, Query(pattern=r"^[0-9]{0,18}$")]
Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.get("/slides/{slide_id}/history")
def slide_history(request: Request, slide_id: Key, person: Text = "", kind: Text = "", cell: Cell = "") -> HTMLResponse:
    """Shows a slide's versions and actions; as it shows what people said of cells, it counts as opening the slide."""
    services, session = services_of(request), session_of(request)

    def read(connection: sa.Connection) -> LookBack:
        return look_back(connection, slide_id, person=person, kind=kind, cell_id=int(cell) if cell else None)

    past = _snapshot(services, read)
    services.writer.open_slide(session, slide_id)
    return desk_page(
        request,
        "history.html.j2",
        past=past,
        slide=past.slide,
        actions=ACTIONS,
        chosen={"person": person, "kind": kind, "cell": cell},
        reason_names=reason_names,
    )


@router.get("/slides/{slide_id}/versions/{number}")
def slide_version(request: Request, slide_id: Key, number: Number) -> HTMLResponse:
    """Shows a version of a slide's result as it was, to read and to print; it counts as opening the slide."""
    services, session = services_of(request), session_of(request)

    def read(connection: sa.Connection) -> dict[str, Any]:
        barcode = barcode_of(connection, slide_id)
        result = result_of(connection, find_slide(connection, barcode, slide_id=slide_id), version=number)
        return {
            "read": result,
            "comments": slide_comments(connection, result),
            "holds": holds_of(connection, slide_id),
            "where": signed_where(connection, result),
        }

    found = _snapshot(services, read)
    services.writer.open_slide(session, slide_id)
    result = found["read"]
    facts = result.facts
    return desk_page(
        request,
        "version.html.j2",
        **found,
        slide=result.slide,
        version=result.version,
        differential=result.differential,
        age=None if facts.age_months is None else age_text(facts.age_months),
        ranges=result.rules.ranges_for(facts.age_months, facts.sex),
        reason_names=reason_names,
        flag_names=FLAG_NAMES,
        code_version=code_version(),
        now=datetime.now(UTC),
    )


@router.get("/reported")
def reported(request: Request, date: Text = "", barcode: Text = "") -> HTMLResponse:
    """Shows which results were in force at a moment."""
    services = services_of(request)
    asked, problem = parse_moment(date)
    found = services.desk.transact(lambda c: read_reported(c, asked, barcode.strip()))
    return desk_page(
        request,
        "reported.html.j2",
        "/reported",
        status=422 if problem else 200,
        found=found,
        problem=problem,
        chosen={"date": date, "barcode": barcode},
        reason_names=reason_names,
    )


@router.get("/reported.csv")
def reported_table(request: Request, date: Text = "", barcode: Text = "") -> Response:
    """Returns which results were in force at a moment, with their percentages, as a table for a spreadsheet."""
    asked, problem = parse_moment(date)
    if problem:
        return Response(problem, status_code=422, media_type="text/plain; charset=utf-8")
    services = services_of(request)
    found = services.desk.transact(lambda c: read_reported(c, asked, barcode.strip(), most=None))
    body = services.desk.transact(lambda c: reported_csv(c, found))
    name = f"reported-{found.moment:%Y%m%d-%H%M}.csv"
    return Response(
        body, media_type="text/csv; charset=utf-8", headers={"content-disposition": f'attachment; filename="{name}"'}
    )


def _snapshot(services: Services, work: Callable[[sa.Connection], Any]) -> Any:
    """Returns what `work` reads, in one snapshot: versions and actions fit together."""

    def read(connection: sa.Connection) -> Any:
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        return work(connection)

    return services.desk.transact(read)
