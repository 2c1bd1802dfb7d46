"""Logging in at the laboratory's OpenID provider, and doing so again before a signature."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bloodcell.errors import LoginRefusedError
from bloodcell.review.guards import SAME_AGAIN
from bloodcell.review.login_pages import own_path, set_session
from bloodcell.review.oidc_login import PENDING_COOKIE, PENDING_VALID_S, finish, seal, start, unseal
from bloodcell.review.openid_provider import CALLBACK_PATH, OpenIdProvider
from bloodcell.review.services import services_of

router: Final = APIRouter(include_in_schema=False)


@router.get(f"{CALLBACK_PATH}/start")
def begin(request: Request, next: Annotated[str, Query(max_length=500)] = "/", again: bool = False) -> Response:
    """Sends the person to the provider; with `again`, to enter the password there before a signature."""
    provider, session = _provider(request), request.state.session
    if again and (session is None or session.subject is None):
        return RedirectResponse("/login", 303)
    url, pending = start(provider, again_as=session.subject if again else None, return_to=own_path(next))
    answer = RedirectResponse(url, 303)
    answer.set_cookie(
        PENDING_COOKIE, seal(provider, pending), max_age=PENDING_VALID_S, httponly=True, samesite="lax", secure=True
    )
    return answer


@router.get(CALLBACK_PATH)
def come_back(request: Request) -> Response:
    """Logs in the person who comes back from the provider, or records that the session's person is there again."""
    if request.headers.get("sec-fetch-site") == "cross-site":
        # the session's strict cookie does not come along from the provider: the same request from our own page has it
        return HTMLResponse(SAME_AGAIN)
    services, provider, session = services_of(request), _provider(request), request.state.session
    pending = unseal(provider, request.cookies.get(PENDING_COOKIE, ""))
    login = finish(provider, pending, request.query_params)
    answer = RedirectResponse(own_path(login.return_to), 303)
    answer.delete_cookie(PENDING_COOKIE, secure=True, httponly=True, samesite="lax")
    if pending.subject is None:
        set_session(services, answer, services.sessions.open(login.person, "oidc", subject=login.subject))
    elif session is not None and session.subject == login.subject and login.person.may("reader"):
        services.sessions.prove(session)
    else:
        raise LoginRefusedError("Somebody else logged in at the provider than the person who works at the desk.")
    return answer


def _provider(request: Request) -> OpenIdProvider:
    provider = services_of(request).provider
    if provider is None:
        raise HTTPException(404, "People do not log in by an OpenID provider here (BLOODCELL_DESK_LOGIN).")
    return provider
