"""The page of the training queue; its labels are ordinary ones, stored by the route of their slide."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from bloodcell.results.result_display import line_name
from bloodcell.review.navigation import desk_page
from bloodcell.review.services import services_of, session_of
from bloodcell.review.slide_page import line_choices
from bloodcell.review.training_queue import QueuedCell, read_queue
from bloodcell.review.writing import require_role

router: Final = APIRouter(include_in_schema=False)

Night = Annotated[str, Query(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")]


@router.get("/training-queue")
def training_queue(request: Request, night: Night = "") -> HTMLResponse:
    """Shows cells of a night that are worth a label for training, one after another."""
    services, session = services_of(request), session_of(request)
    require_role(session.person, "reader")
    try:
        asked = date.fromisoformat(night) if night else None
    except ValueError:
        asked = None
    found = services.desk.transact(lambda c: read_queue(c, asked, services.settings.desk_training_cells))
    waiting = [each for each in found.cells if not each.is_labelled]
    return desk_page(
        request,
        "training_queue.html.j2",
        "/training-queue",
        found=found,
        waiting=waiting,
        queue={
            "cells": [_shown(each) for each in waiting],
            "lines": [asdict(each) for each in line_choices()],
            "n_all": len(found.cells),
        },
    )


def _shown(cell: QueuedCell) -> dict[str, Any]:
    image = f"/slides/{cell.slide_id}/cells/{cell.cell_id}/image"
    return {**asdict(cell), "image": image, "called_name": line_name(cell.called)}
