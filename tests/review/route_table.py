"""Asks every route of a running desk as everybody, and makes the table of what was answered.

`python -m tests.review.route_table` prints the table as Markdown, of a desk on an embedded Postgres of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.routing import Route

from bloodcell.review.local_users import make_link
from bloodcell.review.static_files import StaticFiles
from bloodcell.settings import Settings
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade
from tests.review.desk import PASSWORD, Reader, RunningDesk, Slide, new_desk, new_keys

ROLES: Final = {"viewer": "vera", "reader": "anna", "senior": "clara", "administrator": "adam"}
"""Role -> a person who has it."""
EVERYBODY: Final = frozenset(ROLES)
READERS: Final = frozenset({"reader", "senior"})
SENIORS: Final = frozenset({"senior"})
ADMINISTRATORS: Final = frozenset({"administrator"})
OPEN: Final[frozenset[str]] = frozenset()
"""A route that answers without a log-in."""

ACCESS: Final = {
    "GET /healthz": OPEN,
    "GET /static/{digest}/{name:path}": OPEN,
    "GET /login": OPEN,
    "POST /login": OPEN,
    "GET /login/oidc": OPEN,
    "GET /login/oidc/start": OPEN,
    "GET /enter/{token}": OPEN,
    "POST /enter/{token}": OPEN,
    "GET /api/session": OPEN,
    "POST /api/session": OPEN,
    "GET /api/openapi.json": EVERYBODY,
    "POST /logout": EVERYBODY,
    "POST /logout-everywhere": EVERYBODY,
    "POST /language": EVERYBODY,
    "GET /": EVERYBODY,
    "GET /slides/{slide_id}": EVERYBODY,
    "GET /slides/{slide_id}/history": EVERYBODY,
    "GET /slides/{slide_id}/versions/{number}": EVERYBODY,
    "GET /slides/{slide_id}/cells/{cell_id}/image": EVERYBODY,
    "GET /slides/{slide_id}/sprites/{digest}.jpg": EVERYBODY,
    "GET /training-queue": READERS,
    "GET /statistics": EVERYBODY,
    "GET /reported": EVERYBODY,
    "GET /reported.csv": EVERYBODY,
    "GET /validations/{model_id}": EVERYBODY,
    "GET /validations/{model_id}/page": EVERYBODY,
    "GET /blind": READERS,
    "GET /blind/cells/{number}/image": READERS,
    "GET /second": SENIORS,
    "GET /second/cells/{number}/image": SENIORS,
    "GET /adjudication": SENIORS,
    "GET /quality": EVERYBODY,
    "POST /quality/override": SENIORS,
    "GET /messages": EVERYBODY,
    "POST /messages/decide": SENIORS,
    "GET /sessions": ADMINISTRATORS,
    "POST /sessions/end": ADMINISTRATORS,
    "GET /api/slides/{slide_id}": EVERYBODY,
    "GET /api/slides/{slide_id}/cells/{cell_id}": EVERYBODY,
    "POST /api/slides/{slide_id}/labels": READERS,
    "POST /api/slides/{slide_id}/comments": READERS,
    "POST /api/slides/{slide_id}/lease": READERS,
    "DELETE /api/slides/{slide_id}/lease": EVERYBODY,
    "POST /api/slides/{slide_id}/sign": READERS,
    "POST /api/blind": READERS,
    "POST /api/adjudications": SENIORS,
}
"""Who may use each route. A route that is missing here fails the tests: whoever adds one says who may use it."""
BODY_TOO_LARGE: Final = 10_000_000


@dataclass(slots=True)
class Row:
    """What a route answered.

    Attributes:
        method: GET, POST or DELETE.
        path: The path with its parameters by name.
        stranger: Status without a session.
        by_role: Role -> status.
        ended: Statuses with a forged token and with one of a session that has ended.
        other_site: Statuses with an origin, or a Sec-Fetch-Site, that is not the desk's own; empty for a GET.
        without_token: Statuses without the page's token, and with another person's; empty for a GET.
        too_large: Statuses of a body of 10 MB, announced and in chunks; empty for a GET.
    """

    method: str
    path: str
    stranger: int
    by_role: dict[str, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    other_site: set[int] = field(default_factory=set)
    without_token: set[int] = field(default_factory=set)
    too_large: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Material:
    """What requests name: a slide of its own for each request that would change one."""

    desk: RunningDesk
    slide: Slide

    @classmethod
    def of(cls, desk: RunningDesk) -> Material:
        slide = desk.slide({"neutrophil": 60})
        desk.laboratory.sample(slide.all_cells[:1])
        return cls(desk, slide)

    def path(self, template: str) -> str:
        """Returns a path with parameters that exist."""
        if "/sprites/" in template:
            with self.desk.client("vera") as vera:
                return str(vera.open(self.slide)["sprites"][0]["url"])
        values = {
            "slide_id": self.slide.slide_id,
            "cell_id": self.slide.all_cells[0],
            "number": 1,
            "digest": StaticFiles().digest,
            "name:path": "desk.css",
            "token": "no-such-token",
            "model_id": "a" * 64,
        }
        for name, value in values.items():
            template = template.replace(f"{{{name}}}", str(value))
        return template

    def body(self, name: str, person: Reader | None) -> dict[str, Any]:
        """Returns the arguments with which httpx sends a body that the route accepts."""
        csrf = person.csrf if person else ""
        cell = self.slide.all_cells[0]
        label = {"key": new_keys(1)[0], "cell_id": cell, "label": "neutrophil"}
        forms = {
            "POST /login": {"name": "anna", "password": PASSWORD},
            "POST /enter/{token}": {"password": "x", "again": "x"},
            "POST /logout": {"csrf": csrf},
            "POST /logout-everywhere": {"csrf": csrf},
            "POST /language": {"language": "de", "csrf": csrf},
            "POST /sessions/end": {"person": "nobody", "csrf": csrf},
            "POST /quality/override": {"check": "1", "reason": "r", "csrf": csrf},
            "POST /messages/decide": {"message": "1", "action": "skip", "reason": "r", "csrf": csrf},
        }
        if name in forms:
            return {"data": forms[name]}
        bodies = {
            "POST /api/session": {"name": "anna", "password": PASSWORD},
            "POST /api/slides/{slide_id}/labels": {"changes": [{**label, "seen": None}]},
            "POST /api/slides/{slide_id}/comments": {"key": new_keys(1)[0], "text": "seen"},
            "POST /api/slides/{slide_id}/lease": {"take_over": True},
            "POST /api/slides/{slide_id}/sign": {"digest": "0" * 64, "state": "final", "password": PASSWORD},
            "POST /api/blind": {"changes": [label]},
            "POST /api/adjudications": {"changes": [label]},
        }
        return {"json": bodies[name]} if name in bodies else {}


def routes_of(desk: RunningDesk) -> list[tuple[str, str]]:
    """Returns method and path of every route of the application.

    Raises:
        TypeError: Something is mounted, or answers WebSockets, and its routes are not known.
    """
    found = []
    for route in desk.app.routes:
        if not isinstance(route, Route):
            raise TypeError(f"{route!r} is no route that answers requests one by one")
        found += [(method, route.path) for method in sorted(route.methods or ()) if method != "HEAD"]
    return found


def route_table(desk: RunningDesk) -> list[Row]:
    """Returns what every route answers to everybody."""
    material = Material.of(desk)
    return [_row(material, method, path) for method, path in routes_of(desk)]


def _row(material: Material, method: str, path: str) -> Row:
    desk, name, url = material.desk, f"{method} {path}", material.path(path)
    with desk.stranger() as stranger:
        row = Row(method, path, stranger.request(method, url, **material.body(name, None)).status_code)
    for role, person in ROLES.items():
        with desk.client(person) as client:
            row.by_role[role] = client.http.request(method, url, **material.body(name, client)).status_code
    row.ended = {
        client.http.request(method, url, **material.body(name, client)).status_code for client in _without_session(desk)
    }
    if method != "GET":
        _ask_as_another_site(material, row, url)
        _ask_too_much(material, row, url)
    return row


def _without_session(desk: RunningDesk) -> Iterator[Reader]:
    """Yields somebody with a forged token, with the digest instead of a token, and with one that has ended."""
    for token in ("0" * 43, None):
        with desk.client("adam") as client:
            session = desk.sessions.of(client.http.cookies["bloodcell_desk"])
            assert session is not None
            if token is None:
                desk.sessions.end(session)
            else:
                client.http.cookies.set("bloodcell_desk", token, domain="127.0.0.1")
            yield client
    with desk.client("adam") as client:
        client.http.cookies.set("bloodcell_desk", desk.session("adam").digest, domain="127.0.0.1")
        yield client


def _ask_as_another_site(material: Material, row: Row, url: str) -> None:
    role = next(iter(sorted(ACCESS.get(row.name, EVERYBODY) or EVERYBODY)))
    foreign: list[dict[str, str]] = [{"origin": origin} for origin in _FOREIGN_ORIGINS]
    foreign += [{"sec-fetch-site": site} for site in ("cross-site", "same-site", "elsewhere")]
    with material.desk.client(ROLES[role]) as client:
        for headers in foreign:
            request = client.http.build_request(row.method, url, headers=headers, **material.body(row.name, client))
            if "origin" not in headers:
                del request.headers["origin"]
            row.other_site.add(client.http.send(request).status_code)
    with material.desk.client("dora") as other:
        tokens = ["", "0" * 64, other.csrf]
    with material.desk.client(ROLES[role]) as client:
        for token in tokens:
            client.http.headers["x-csrf-token"] = client.csrf = token
            body = material.body(row.name, client)
            row.without_token.add(client.http.request(row.method, url, **body).status_code)


_FOREIGN_ORIGINS: Final = (
    "https://evil.example",
    "null",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "",
)


def _ask_too_much(material: Material, row: Row, url: str) -> None:
    role = next(iter(sorted(ACCESS.get(row.name, EVERYBODY) or EVERYBODY)))
    chunk = b" " * 100_000
    for body in (chunk * (BODY_TOO_LARGE // len(chunk)), (chunk for _ in range(BODY_TOO_LARGE // len(chunk)))):
        with material.desk.client(ROLES[role]) as client:
            headers = {"content-type": "application/json"}
            row.too_large.add(client.http.request(row.method, url, content=body, headers=headers).status_code)


def markdown(rows: list[Row]) -> str:
    """Returns the table as Markdown, for the documentation."""
    head = ["Route", "Without log-in", *ROLES, "Forged or ended", "Another site", "No or another token", "10 MB"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        said = [row.ended, row.other_site, row.without_token, row.too_large]
        statuses = [", ".join(map(str, sorted(each))) or "–" for each in said]
        lines.append([f"`{row.name}`", str(row.stranger), *(str(row.by_role[role]) for role in ROLES), *statuses])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def enter_link(desk: RunningDesk) -> str:
    """Returns the path of a link that sets a new person's password."""
    name = f"new-{new_keys(1)[0][:8]}"
    return f"/enter/{make_link(desk.settings.users_file, name, ['viewer'])}"


@contextmanager
def _own_desk(folder: Path) -> Iterator[RunningDesk]:
    server = embedded_database(Settings(data_dir=folder))
    upgrade(server.url())
    try:
        with new_desk(folder, server.url()) as desk:
            yield desk
    finally:
        server.stop()


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory(prefix="bloodcell-routes-") as folder, _own_desk(Path(folder)) as desk:
        print(markdown(route_table(desk)), end="")


if __name__ == "__main__":
    main()
