"""Logging in and out, and choosing a language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from bloodcell.errors import ConfigurationError, DirectoryUnavailableError, LoginRefusedError, PasswordRefusedError
from bloodcell.review.guards import require_form
from bloodcell.review.ldap_login import check_ldap
from bloodcell.review.local_users import check_password, name_of_link, use_link
from bloodcell.review.services import LANGUAGE_COOKIE, services_of, session_of
from bloodcell.review.writing import SessionEndedError, WrongPasswordError

if TYPE_CHECKING:
    from bloodcell.review.people import Person
    from bloodcell.review.services import Services
    from bloodcell.review.sessions import Session
    from bloodcell.settings import Settings

router: Final = APIRouter(include_in_schema=False)

Name = Annotated[str, Form(max_length=200)]
Password = Annotated[str, Form(max_length=1000)]
Csrf = Annotated[str, Form(max_length=100)]


def cookie_name(settings: Settings) -> str:
    """Returns the name of the session's cookie; with TLS one that no other host can set."""
    return "__Host-bloodcell" if settings.desk_origin.startswith("https://") else "bloodcell_desk"


@router.get("/healthz")
def health(request: Request) -> JSONResponse:
    """Answers without a log-in, and says nothing else."""
    return JSONResponse({"status": "healthy"})


@router.get("/static/{digest}/{name:path}")
def static_file(request: Request, digest: str, name: str) -> Response:
    """Returns a script or a style; its address changes when it changes."""
    found = services_of(request).static.read(digest, name)
    if found is None:
        raise HTTPException(404, "There is no such file.")
    return Response(found[0], media_type=found[1], headers={"cache-control": "public, max-age=31536000, immutable"})


@router.get("/login")
def login_page(request: Request, next: str = "/") -> Response:
    """Shows the form to log in."""
    if request.state.session is not None:
        return RedirectResponse(own_path(next), 303)
    return _login_form(request, next)


@router.post("/login")
def log_in(request: Request, name: Name, password: Password, next: Name = "/") -> Response:
    """Logs a person in by name and password."""
    person = authenticated(request, name, password)
    if person is None:
        return _login_form(request, next, name=name, problem="The name or the password is wrong.", status=403)
    return _logged_in(services_of(request), person, services_of(request).settings.desk_login, own_path(next))


@router.get("/enter/{token}")
def enter_page(request: Request, token: str) -> Response:
    """Shows the form with which a person sets a password, once."""
    name = name_of_link(services_of(request).settings.users_file, token)
    return _enter_form(request, token, name, status=200 if name else 403)


@router.post("/enter/{token}")
def enter(request: Request, token: str, password: Password, again: Password) -> Response:
    """Sets the password of the person for whom the link was made, and logs the person in."""
    services = services_of(request)
    name = name_of_link(services.settings.users_file, token)
    if password != again:
        return _enter_form(request, token, name, problem="The two passwords differ.", status=422)
    try:
        person = use_link(services.settings.users_file, token, password)
    except PasswordRefusedError as error:
        return _enter_form(request, token, name, problem=str(error), status=422)
    except LoginRefusedError:
        return _enter_form(request, token, None, status=403)
    return _logged_in(services, person, "link", "/")


class PasswordAgain(BaseModel):
    """The password of the person whose session has run out."""

    name: str = Field(max_length=200)
    password: str = Field(max_length=1000)


@router.get("/api/session")
def own_session(request: Request) -> JSONResponse:
    """Returns who is logged in, for a page whose session ended and whose person has logged in in another tab."""
    session: Session | None = request.state.session
    if session is None:
        raise SessionEndedError("Nobody is logged in.")
    return JSONResponse({"name": session.person.name, "csrf": session.csrf})


@router.post("/api/session")
def log_in_again(request: Request, again: PasswordAgain) -> JSONResponse:
    """Logs a person in again without leaving the page; returns the token for the page's next requests."""
    services = services_of(request)
    person = authenticated(request, again.name, again.password)
    if person is None:
        raise WrongPasswordError("The password is wrong.")
    token = services.sessions.open(person, services.settings.desk_login)
    session = services.sessions.of(token)
    answer = JSONResponse({"name": person.name, "csrf": session.csrf if session else ""})
    set_session(services, answer, token)
    return answer


@router.post("/logout")
def log_out(request: Request, csrf: Csrf = "") -> Response:
    """Ends this session."""
    return _log_out(request, csrf, everywhere=False)


@router.post("/logout-everywhere")
def log_out_everywhere(request: Request, csrf: Csrf = "") -> Response:
    """Ends all sessions of the person."""
    return _log_out(request, csrf, everywhere=True)


@router.post("/language")
def choose_language(request: Request, language: Name, csrf: Csrf = "") -> Response:
    """Remembers the language for this browser."""
    require_form(request.state.session, csrf)
    answer = RedirectResponse(own_path(request.headers.get("referer", "/")), 303)
    if language in services_of(request).catalogues:
        secure = services_of(request).settings.desk_origin.startswith("https://")
        answer.set_cookie(LANGUAGE_COOKIE, language, max_age=31536000, httponly=True, samesite="strict", secure=secure)
    return answer


def authenticated(request: Request, name: str, password: str) -> Person | None:
    """Returns the person with this name and password; None if either is wrong.

    Args:
        request: The request; who has guessed too often has to wait.
        name: The name, in whatever case.
        password: The password.

    Raises:
        HTTPException: 429, with the seconds to wait.
        DirectoryUnavailableError: The laboratory's directory cannot be reached.
    """
    services, address = services_of(request), request.client.host if request.client else ""
    if wait_s := services.accounts.begin(name, address):
        said = "Too many wrong passwords for this name. Wait, then try again; an administrator can see who tries."
        raise HTTPException(429, said, headers={"retry-after": str(wait_s)})
    settings = services.settings
    if services.directory is not None:
        try:
            person = check_ldap(services.directory, name, password)
        except (DirectoryUnavailableError, LoginRefusedError, ConfigurationError):
            services.accounts.undone(name)  # the password was not wrong
            raise
    elif settings.desk_login == "local":
        person = check_password(settings.users_file, name, password)
    else:
        person = None  # by the provider's own page only
    if person is not None:
        services.accounts.succeeded(name, address)
    return person


def set_session(services: Services, answer: Response, token: str) -> None:
    """Gives the browser the token of a session, in a cookie that scripts and other sites cannot use."""
    secure = services.settings.desk_origin.startswith("https://")
    answer.set_cookie(cookie_name(services.settings), token, httponly=True, samesite="strict", secure=secure, path="/")


def _logged_in(services: Services, person: Person, method: str, path: str) -> Response:
    answer = RedirectResponse(path, 303)
    set_session(services, answer, services.sessions.open(person, method))
    return answer


def _log_out(request: Request, csrf: str, *, everywhere: bool) -> Response:
    services, session = services_of(request), session_of(request)
    require_form(session, csrf)
    services.sessions.end(session, everywhere=everywhere)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(cookie_name(services.settings), path="/")
    answer.headers["clear-site-data"] = '"cache"'  # pictures of cells stay on no shared machine
    return answer


def _login_form(
    request: Request, next_path: str, *, name: str = "", problem: str | None = None, status: int = 200
) -> HTMLResponse:
    page = services_of(request).page(
        "login.html.j2", request, next=own_path(next_path), name=name, problem=problem,
        login=services_of(request).settings.desk_login,
    )  # fmt: skip
    return HTMLResponse(page, status)


def _enter_form(
    request: Request, token: str, name: str | None, *, problem: str | None = None, status: int
) -> HTMLResponse:
    page = services_of(request).page("enter.html.j2", request, token=token, name=name, problem=problem)
    return HTMLResponse(page, status)


def own_path(target: str) -> str:
    """Returns a path of the desk itself: a link to another site is not followed after the log-in.

    Args:
        target: Where the person wanted to go.
    """
    try:
        parts = urlsplit(target)
    except ValueError:  # such as http://[
        return "/"
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    is_own = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_own else "/"
