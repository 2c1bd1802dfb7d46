"""What every request passes before a route sees it: size, origin, session, and the headers of every answer.

A route is closed unless its path is named here, so that a new route cannot be open by mistake.
"""

from __future__ import annotations

import hmac
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser

from bloodcell.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from bloodcell.login_limit import Application, Message, Receive, Send
    from bloodcell.review.sessions import Session, Sessions

MAX_BODY_BYTES: Final = 512 * 1024
"""500 changes of a label are 60 kB."""
_DISCARDED_BYTES: Final = 16 * 1024 * 1024
"""Bytes that are read of a body that is too large. Closing a connection with unread bytes resets it: the answer is
lost, and a proxy that was still sending answers 502."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-frame-options": "DENY",
}
AWAY: Final = "The database or the store cannot be reached now. Nothing was lost; try again."
SAME_AGAIN: Final = b'<!doctype html><meta http-equiv="refresh" content="0"><title>bloodcell</title>'
"""A page that makes the browser repeat its request, now from a page of the desk."""
_OPEN_PATHS: Final = ("/healthz", "/login", "/login/oidc", "/login/oidc/start", "/api/session")
_OPEN_PREFIXES: Final = ("/static/", "/enter/")
_RENEWED_BY_PAGES: Final = re.compile(r"/api/slides/[0-9]+/lease")
"""What an open page asks for by itself; a session does not last longer for it."""
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


def is_open(path: str) -> bool:
    """Returns whether a path answers without a log-in."""
    return path in _OPEN_PATHS or path.startswith(_OPEN_PREFIXES)


def safe_headers(*, is_https: bool) -> dict[str, str]:
    """Returns the headers that every answer has, unless its route says otherwise.

    Args:
        is_https: Whether browsers reach the desk by TLS.
    """
    strict = {"strict-transport-security": "max-age=31536000"} if is_https else {}
    return {**_HEADERS, **strict, "cache-control": "no-store"}


class SafeAnswers:
    """Adds the security headers to every answer, and keeps pages out of caches unless the route says otherwise."""

    def __init__(self, app: Application, *, is_https: bool) -> None:
        self._app = app
        self._headers = safe_headers(is_https=is_https)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)


class BoundedBody:
    """Answers 413 to a request with more than `MAX_BODY_BYTES`, whatever length it announces."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        body, n_bytes, more = b"", 0, True
        is_too_large = not announced.isdigit() or int(announced) > MAX_BODY_BYTES
        while more and n_bytes <= _DISCARDED_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            part = message.get("body", b"")
            n_bytes += len(part)
            is_too_large = is_too_large or n_bytes > MAX_BODY_BYTES
            body = b"" if is_too_large else body + part
            more = message.get("more_body", False)
        if is_too_large:
            await _answer(send, 413, "too_large", f"A request has at most {MAX_BODY_BYTES:,} bytes.")
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, receive_again, send)


class Guard:
    """Finds the session of a request, and refuses those without one, from another site, or without its token.

    Args:
        app: The application.
        sessions: Where sessions are found.
        cookie: Name of the cookie.
        origins: Origins that the desk's own pages may have.
    """

    def __init__(self, app: Application, *, sessions: Sessions, cookie: str, origins: frozenset[str]) -> None:
        self._app = app
        self._sessions = sessions
        self._cookie = cookie
        self._origins = origins

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] != "websocket":
                await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        changes = scope["method"] not in _SAFE_METHODS
        if changes and not self._is_own(headers):
            await _answer(send, 403, "forbidden", "The request comes from another site.")
            return
        if path == "/healthz" or path.startswith("/static/"):
            await self._app(scope, receive, send)
            return
        token = _cookie(headers, self._cookie)
        try:
            session = await run_in_threadpool(self._session, token, path) if token else None
        except DatabaseUnavailableError:
            await _answer(send, 503, "away", AWAY)
            return
        scope.setdefault("state", {})["session"] = session
        if session is None and not is_open(path):
            await self._refuse(scope, headers, send)
            return
        # a form carries the token in its body, where the route checks it; everything else carries it in a header
        is_form = not path.startswith("/api/") and _kind(headers) == "application/x-www-form-urlencoded"
        if changes and session is not None and not (is_form or is_open(path) or _has_token(headers, session)):
            await _answer(send, 403, "forbidden", "The request lacks the token of its page. Load the page again.")
            return
        await self._app(scope, receive, send)

    def _session(self, token: str, path: str) -> Session | None:
        return self._sessions.of(token, is_use=_RENEWED_BY_PAGES.fullmatch(path) is None)

    def _is_own(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            return origin in self._origins
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")

    async def _refuse(self, scope: Message, headers: Headers, send: Send) -> None:
        wants_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
        if not wants_page:
            await _answer(send, 401, "not_logged_in", "Log in first.")
        elif headers.get("sec-fetch-site") == "cross-site":
            # a strict cookie does not come with a link on another site: the same request from our own page has it
            await _send(send, 200, SAME_AGAIN, "text/html; charset=utf-8")
        else:
            target = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            location = "/login" if target == "/" else f"/login?next={quote(target, safe='')}"
            await _send(send, 303, b"", "text/plain", (b"location", location.encode()))


def require_form(session: Session | None, token: str | None) -> None:
    """Raises HTTPException (403) unless a form carries the token of its session.

    Args:
        session: Who sends the form; None if nobody is logged in.
        token: What the form carries.
    """
    if session is None or not hmac.compare_digest(session.csrf.encode(), (token or "").encode()):
        raise HTTPException(403, "The form is of another session. Load the page again.")


def _kind(headers: Headers) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def _has_token(headers: Headers, session: Session) -> bool:
    return hmac.compare_digest(session.csrf.encode(), headers.get("x-csrf-token", "").encode())


def _cookie(headers: Headers, name: str) -> str | None:
    # as browsers do, not as SimpleCookie: cookies of other programs on this host, of whatever form, come along
    return cookie_parser(headers.get("cookie", "")).get(name)


async def _answer(send: Send, status: int, code: str, text: str) -> None:
    body = json.dumps({"error": {"code": code, "text": text, "next": None}}).encode()
    await _send(send, status, body, "application/json")


async def _send(send: Send, status: int, body: bytes, kind: str, *headers: tuple[bytes, bytes]) -> None:
    everything = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": everything})
    await send({"type": "http.response.body", "body": body})
