"""The application of the review desk."""

from __future__ import annotations

import logging
import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from bloodcell.errors import (
    BloodcellError,
    DirectoryUnavailableError,
    LoginRefusedError,
    RetryLaterError,
    SigningRefusedError,
    UnknownRecordError,
)
from bloodcell.login_limit import LoginLimit
from bloodcell.review import (
    login_pages,
    look_back_routes,
    message_pages,
    openid_pages,
    pages,
    people_pages,
    quality_pages,
    reading_routes,
    slide_routes,
    statistics_routes,
    training_queue_routes,
    validation_pages,
)
from bloodcell.review.desk_records import ErrorAnswer
from bloodcell.review.guards import AWAY, BoundedBody, Guard, SafeAnswers, safe_headers
from bloodcell.review.services import Services, services_of
from bloodcell.review.writing import (
    ResultChangedError,
    RightMissingError,
    SessionEndedError,
    SlideHeldError,
    WriteRefusedError,
    WrongPasswordError,
)
from bloodcell.visible_text import visible_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PAGES: Final = (
    login_pages,
    openid_pages,
    pages,
    slide_routes,
    reading_routes,
    look_back_routes,
    statistics_routes,
    training_queue_routes,
    validation_pages,
    people_pages,
    message_pages,
    quality_pages,
)
_log: Final = logging.getLogger(__name__)


class _Passwords(frozenset[str]):
    """The paths to which a password is sent: to log in, and to sign."""

    def __contains__(self, path: object) -> bool:
        return super().__contains__(path) or (isinstance(path, str) and _SIGNING.fullmatch(path) is not None)


_SIGNING: Final = re.compile(r"/api/slides/[0-9]+/sign")
_PASSWORDS: Final = _Passwords({"/login", "/api/session"})
_STATUS: Final[dict[type[BloodcellError], tuple[int, str]]] = {
    SessionEndedError: (401, "not_logged_in"),
    RightMissingError: (403, "forbidden"),
    LoginRefusedError: (403, "forbidden"),
    WrongPasswordError: (403, "wrong_password"),
    SlideHeldError: (409, "held"),
    ResultChangedError: (409, "changed"),
    SigningRefusedError: (409, "refused"),
    WriteRefusedError: (422, "invalid"),
    UnknownRecordError: (404, "not_found"),
}


def create_app(services: Services) -> FastAPI:
    """Returns the application of the review desk.

    Args:
        services: What it works with; it closes them when it ends.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services.sprites.sweep()
        try:
            yield
        finally:
            services.close()

    settings = services.settings
    is_https = settings.desk_origin.startswith("https://")
    app = FastAPI(
        title="bloodcell review desk",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={status: {"model": ErrorAnswer} for status in (401, 403, 404, 409, 413, 422, 429, 500, 503)},
        redirect_slashes=False,  # such a redirect would name the host of the request, whatever that is
        exception_handlers={
            BloodcellError: _told,
            HTTPException: _http_error,
            RequestValidationError: _not_valid,
            # Starlette answers these outside of all middleware
            Exception: partial(_unexpected, headers=safe_headers(is_https=is_https)),
        },
    )
    app.state.services = services
    for module in _PAGES:
        app.include_router(module.router)
    # the last one added sees a request first; what another site makes a browser send is no failed log-in
    app.add_middleware(LoginLimit, paths=_PASSWORDS)
    app.add_middleware(
        Guard,
        sessions=services.sessions,
        cookie=login_pages.cookie_name(settings),
        origins=frozenset({settings.desk_origin}),
    )
    app.add_middleware(BoundedBody)
    app.add_middleware(SafeAnswers, is_https=is_https)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """Answers an error that was raised on purpose with its text."""
    if isinstance(error, DirectoryUnavailableError):
        return _answer(request, 503, "away", str(error))
    if isinstance(error, RetryLaterError):
        _log.warning("%s", visible_lines(error))  # it names the server, which is not for everybody
        return _answer(request, 503, "away", AWAY)
    for kind, (status, code) in _STATUS.items():
        if isinstance(error, kind):
            more = {"holder": error.holder} if isinstance(error, SlideHeldError) else {}
            return _answer(request, status, code, str(error), **more)
    return _answer(request, 422, "invalid", str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {401: "not_logged_in", 403: "forbidden", 404: "not_found", 405: "invalid", 429: "too_many"}
    detail = str(error.detail) if isinstance(error, HTTPException) else "Unexpected error"
    if detail == "Not Found":
        detail = "There is no such page."
    return _answer(request, status, codes.get(status, "invalid"), detail, headers=getattr(error, "headers", None))


async def _not_valid(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems[:5])
    return _answer(request, 422, "invalid", visible_lines(said))


async def _unexpected(request: Request, error: Exception, *, headers: dict[str, str]) -> Response:
    said = "Something unexpected happened; the desk's log says what. Nothing was stored."
    return _answer(request, 500, "unexpected", said, headers=headers)


def _answer(request: Request, status: int, code: str, text: str, *, headers: Any = None, **more: object) -> Response:
    """Returns an error as a page to a person, and as JSON to a script."""
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and hasattr(request.state, "session"):
        services = services_of(request)
        page = services.page("error.html.j2", request, status=status, said=text)
        return HTMLResponse(page, status, headers)
    content = {"error": {"code": code, "text": text, "next": None, **more}}
    return JSONResponse(content, status, headers)
