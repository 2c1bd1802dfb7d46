"""The validation of a candidate, for the person who has to approve it: the link in Airflow's question leads here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from bloodcell.errors import UnknownRecordError
from bloodcell.retraining.gates import GATE_TITLES
from bloodcell.retraining.states import TrainingState
from bloodcell.review.navigation import desk_page
from bloodcell.review.services import services_of
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import sqlalchemy as sa

router: Final = APIRouter(include_in_schema=False)

ModelId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
_SQL: Final = load_statements("review/validation_pages.sql")
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""The page comes from the store as it was written: it may show pictures and styles of its own, and nothing else."""


@router.get("/validations/{model_id}")
def validation(request: Request, model_id: ModelId) -> HTMLResponse:
    """Shows the newest validation of a model: its gates, where it comes from, and what was decided."""
    services = services_of(request)

    def read(connection: sa.Connection) -> tuple[Any, Sequence[Any]]:
        gates = connection.execute(_SQL["gates"], {"model_id": model_id}).all()
        return connection.execute(_SQL["origin"], {"model_id": model_id}).one_or_none(), gates

    origin, gates = services.desk.transact(read)
    if not gates:
        raise UnknownRecordError("This model has not been validated.")
    run = origin.airflow_run if origin else None
    order = {gate: at for at, gate in enumerate(GATE_TITLES)}
    airflow = services.settings.airflow_public_url or services.settings.airflow_url
    return desk_page(
        request,
        "validation.html.j2",
        model_id=model_id,
        origin=origin,
        gates=sorted(gates, key=lambda gate: (gate.passed, order.get(gate.gate, len(order)))),
        titles=GATE_TITLES,
        is_open=run is not None and origin.state == TrainingState.RUNNING,
        airflow_run=f"{airflow}/dags/retrain/runs/{quote(run, safe='')}" if run else None,
    )


@router.get("/validations/{model_id}/page")
def whole_page(request: Request, model_id: ModelId) -> HTMLResponse:
    """Shows the page that the validation wrote, as it is in the store."""
    services = services_of(request)
    path = services.desk.transact(lambda c: c.scalar(_SQL["page"], {"model_id": model_id}))
    if path is None:
        raise UnknownRecordError("This model has not been validated.")
    page = services.store.read_report(model_id, path)
    return HTMLResponse(page, headers={"content-security-policy": _POLICY})
