"""Requests that Schemathesis makes up from the API's own description: the server has no error, and keeps to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.review.desk import Reader, RunningDesk, Slide

EXAMPLES = 40
"""Requests for each operation of the API: half a minute on an idle core."""
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.fixture(scope="module")
def senior(running_desk: RunningDesk) -> Iterator[Reader]:
    """A senior reader, who may use the whole API."""
    with running_desk.client("clara") as clara:
        yield clara


@pytest.fixture(scope="module")
def slide(running_desk: RunningDesk) -> Slide:
    """A slide with something of everything."""
    return running_desk.slide({"neutrophil": 4, "unclassified": 1, "BL": 1})


@pytest.fixture(scope="module")
def cookie(senior: Reader) -> dict[str, str]:
    """The session and the token of its page, as headers."""
    return {"cookie": f"bloodcell_desk={senior.http.cookies['bloodcell_desk']}", "x-csrf-token": senior.csrf}


@pytest.fixture(scope="module")
def api(running_desk: RunningDesk, cookie: dict[str, str]) -> schemathesis.BaseSchema:
    """The API's own description."""
    return schemathesis.openapi.from_url(f"{running_desk.url}/api/openapi.json", headers=cookie)


def on_the_slide(case: schemathesis.Case[Any], slide: Slide, n: int) -> None:
    """Makes a request about a slide and a cell that exist, which none that is made up would ever meet."""
    if "slide_id" in (case.path_parameters or {}):
        case.path_parameters["slide_id"] = slide.slide_id
    if "cell_id" in (case.path_parameters or {}):
        case.path_parameters["cell_id"] = slide.all_cells[n]
    changes = case.body.get("changes") if isinstance(case.body, dict) else None
    for change in changes if isinstance(changes, list) else []:
        if isinstance(change, dict):
            change["cell_id"] = slide.all_cells[n]


@pytest.mark.slow
def test_no_request_is_an_error_of_the_server_and_every_answer_is_as_described(
    api: schemathesis.BaseSchema, slide: Slide, cookie: dict[str, str]
) -> None:
    names = set()
    for found in api.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        names.add(operation.label)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, Phase.target],
        )
        @given(case=operation.as_strategy(), is_known=st.sampled_from([True, True, False]), n=st.integers(0, 5))
        def ask(case: schemathesis.Case[Any], is_known: bool, n: int) -> None:
            if is_known:
                on_the_slide(case, slide, n)
            case.call_and_validate(headers=cookie, checks=CHECKS)

        ask()
    assert len(names) >= 9


def test_the_description_names_every_route_of_the_api(running_desk: RunningDesk, cookie: dict[str, str]) -> None:
    described = requests.get(f"{running_desk.url}/api/openapi.json", headers=cookie, timeout=30).json()["paths"]
    named = {(method.upper(), path) for path, methods in described.items() for method in methods}
    routes = {
        (method, str(route.path))  # type: ignore[attr-defined]
        for route in running_desk.app.routes
        for method in getattr(route, "methods", None) or ()
        if str(getattr(route, "path", "")).startswith("/api/")
    }
    assert named == routes - {("GET", "/api/openapi.json"), ("HEAD", "/api/openapi.json")} - {
        ("GET", "/api/session"), ("POST", "/api/session"),
    }  # fmt: skip
