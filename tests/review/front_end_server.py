"""A small server with the desk's real templates and modules, and its API in memory, to run the front end alone.

`python -m tests.review.front_end_server` serves example pages on 127.0.0.1:8300. The real server is tested elsewhere.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.visible_text import visible_lines
from tests.review.desk_material import Json, Slide, image_paths, lines, make_slide, moments, now, sprite

REVIEW: Final = Path(__file__).resolve().parents[2] / "bloodcell/review"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PASSWORD: Final = "a long password"  # noqa: S105 - of the person in memory


class Refused(Exception):
    """An answer with an error of the contract."""

    def __init__(self, status: int, code: str, text: str, **more: object) -> None:
        self.status, self.error = status, {"code": code, "text": text, "next": None, **more}


class FrontEndDesk:
    """The desk in memory: what tests prepare and look at."""

    def __init__(self) -> None:
        self.person = "amartin"
        self.slides: dict[int, Slide] = {}
        self.is_logged_in = True
        self.is_away = False
        self.delay_s = 0.0
        self.refusal = ""  # why nothing is signed
        self.is_taken_with_page = True  # the real desk gives the slide only when the page asks for it
        self.blind: list[Json] = []
        self.adjudications: list[Json] = []
        self.lock = threading.RLock()
        self.url = ""

    def make_slide(self, n_cells: int = 60, *, barcode: str = "S-001", **options: Any) -> int:
        """Makes a slide; returns its id."""
        slide = make_slide(len(self.slides) + 1, n_cells, barcode=barcode, **options)
        self.slides[slide.slide_id] = slide
        return slide.slide_id

    @property
    def csrf(self) -> str:
        """Token of the session: that of another person is refused."""
        return f"token of {self.person}"

    def label_as(self, person: str, slide_id: int, cell_id: int, label: str | None) -> None:
        """Labels a cell as somebody else, as from another browser."""
        with self.lock:
            self.slides[slide_id].label(person, cell_id, label)

    def labels(self, slide_id: int) -> list[tuple[int, str, str | None]]:
        """Returns every label that was stored, oldest first: cell, person, label."""
        return [(one["cell_id"], one["by"], one["label"]) for one in self.slides[slide_id].history]

    def line(self, slide_id: int, cell_id: int) -> str:
        """Returns what a cell counts as."""
        return str(self.slides[slide_id].cell(cell_id)["line"])

    def comment_as(self, person: str, slide_id: int, text: str, cell_id: int | None = None) -> None:
        """Adds a comment."""
        self.slides[slide_id].comments.append({"cell_id": cell_id, "by": person, "at": now(), "text": text})

    def hold_as(self, person: str | None, slide_id: int) -> None:
        """Gives a slide to somebody."""
        self.slides[slide_id].holder = person

    def end_session(self) -> None:
        """Ends the session of the person."""
        self.is_logged_in = False


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(REVIEW / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible_lines(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.globals["_"] = lambda text, **values: text.format_map(values) if values else text
    environment.globals["static"] = lambda name: f"/static/tests/{name}"
    return environment


def create_app(desk: FrontEndDesk) -> FastAPI:
    """Returns the application."""
    app = FastAPI()
    environment = _environment()

    def page(template: str, **values: object) -> HTMLResponse:
        items = [
            ("/", "Worklist", 7),
            ("/blind", "Blind reading", 16),
            ("/adjudicate", "Adjudication", 2),
            ("/training", "Training queue", None),
            ("/statistics", "Statistics", None),
        ]
        navigation = [
            {
                "href": href,
                "text": text,
                "n": n,
                "current": template.startswith(href[1:]) if href != "/" else template.startswith("slide"),
            }
            for href, text, n in items
        ]
        known = {
            "language": "en",
            "languages": [("en", "en", "English"), ("es", "es", "Español"), ("de", "de", "Deutsch")],
            "is_machine_made": False,
            "csrf": desk.csrf,
            "person": {"name": desk.person, "roles": ["reader"]},
            "navigation": navigation,
            "texts": {},
            "page": {"csrf": desk.csrf, "language": "en", "person": desk.person},
        }
        return HTMLResponse(environment.get_template(template).render(known | values))

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        path, method = request.url.path, request.method
        if desk.delay_s:
            import asyncio

            await asyncio.sleep(desk.delay_s)
        try:
            if path.startswith("/api/"):
                if desk.is_away:
                    raise Refused(503, "away", "The database does not answer.")
                if method != "GET" and request.headers.get("x-csrf-token") != desk.csrf:
                    raise Refused(403, "forbidden", "The CSRF token is missing.")
                if not desk.is_logged_in and (method, path) != ("POST", "/api/session"):
                    raise Refused(401, "not_logged_in", "You are logged out.")
            response: Response = await call_next(request)
        except Refused as refused:
            response = JSONResponse({"error": refused.error}, refused.status)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> Response:
        return JSONResponse({"error": refused.error}, refused.status)

    _add_slide_routes(app, desk, page)
    _add_reading_routes(app, desk, page)
    app.mount("/static/tests", StaticFiles(directory=REVIEW / "static"))
    return app


def _add_slide_routes(app: FastAPI, desk: FrontEndDesk, page: Callable[..., HTMLResponse]) -> None:  # noqa: C901 - a list of routes
    @app.get("/slides/{slide_id}")
    def slide_page(slide_id: int) -> HTMLResponse:
        slide = desk.slides[slide_id]
        if desk.is_taken_with_page:
            slide.holder = slide.holder or desk.person
        return page("slide.html.j2", holds=(), slide_data=slide.json(desk.person))

    @app.get("/api/slides/{slide_id}")
    def slide_json(slide_id: int) -> Json:
        return desk.slides[slide_id].json(desk.person)

    @app.get("/slides/{slide_id}/sprites/{at}.jpg")
    def sprite_of(slide_id: int, at: int) -> Response:
        paths = tuple(desk.slides[slide_id].paths[200 * at : 200 * at + 200])
        return Response(
            sprite(paths), media_type="image/jpeg", headers={"Cache-Control": "max-age=31536000, immutable"}
        )

    @app.get("/slides/{slide_id}/cells/{cell_id}/image")
    def image(slide_id: int, cell_id: int) -> Response:
        return Response(desk.slides[slide_id].paths[cell_id - 1].read_bytes(), media_type="image/jpeg")

    @app.get("/cells/{cell_class}/{at}/image")
    def example(cell_class: str, at: int) -> Response:
        return Response(image_paths(cell_class)[at].read_bytes(), media_type="image/jpeg")

    @app.get("/api/slides/{slide_id}/cells/{cell_id}")
    def cell_json(slide_id: int, cell_id: int) -> Json:
        slide = desk.slides[slide_id]
        cell = slide.cell(cell_id)
        known = dict(cell["choices"])
        rest = [(name, (1 - sum(known.values())) / 6) for name in CELL_CLASSES if name not in known]
        history = [
            {
                "by": one["by"],
                "label": one["label"],
                "at": one["at"],
                "is_blind": False,
                "is_adjudication": False,
                "is_retraction": one["label"] is None,
            }
            for one in slide.history
            if one["cell_id"] == cell_id
        ]
        examples = [
            {"line": name, "cells": [{"url": f"/cells/{name}/{at}/image"} for at in range(5)]}
            for name, _ in cell["choices"]
        ]
        return {
            "cell_id": cell_id,
            "probabilities": [*known.items(), *rest],
            "width_px": 360,
            "height_px": 363,
            "history": history,
            "examples": examples,
        }

    @app.post("/api/slides/{slide_id}/labels")
    async def label(slide_id: int, request: Request) -> Json:
        slide, changes = desk.slides[slide_id], (await request.json())["changes"]
        with desk.lock:
            if slide.holder not in {None, desk.person}:
                raise Refused(409, "held", f"{slide.holder} has the slide.", holder=slide.holder)
            outcomes = [_store(slide, desk.person, change) for change in changes]
            changed = [
                slide.cell_json(slide.cell(cell_id), desk.person)
                for cell_id in {change["cell_id"] for change in changes}
            ]
            return {
                "outcomes": outcomes,
                "cells": changed,
                "differential": slide.differential(),
                "signing": slide.signing(),
                "is_withheld": slide.is_withheld,
                "lease": slide.lease(desk.person),
            }

    @app.post("/api/slides/{slide_id}/comments")
    async def comment(slide_id: int, request: Request) -> Json:
        sent = await request.json()
        desk.comment_as(desk.person, slide_id, sent["text"], sent["cell_id"])
        return {"comments": desk.slides[slide_id].comments}

    @app.post("/api/slides/{slide_id}/lease")
    async def hold(slide_id: int, request: Request) -> Json:
        slide = desk.slides[slide_id]
        if (await request.json())["take_over"] or slide.holder is None:
            slide.holder = desk.person
        return {"lease": slide.lease(desk.person)}

    @app.delete("/api/slides/{slide_id}/lease")
    def give_back(slide_id: int) -> Json:
        slide = desk.slides[slide_id]
        slide.holder = None if slide.holder == desk.person else slide.holder
        return {"lease": slide.lease(desk.person)}

    @app.post("/api/slides/{slide_id}/sign")
    async def sign(slide_id: int, request: Request) -> Json:
        slide, sent = desk.slides[slide_id], await request.json()
        if sent["password"] != PASSWORD:
            raise Refused(403, "wrong_password", "The password is wrong.")
        if sent["digest"] != slide.signing()["digest"]:
            raise Refused(409, "changed", "The slide has changed.")
        if desk.refusal:
            raise Refused(409, "refused", desk.refusal)
        slide.signed_digest, slide.waiting = sent["digest"], None
        slide.versions.append(
            {
                "version": len(slide.versions) + 1,
                "state": sent["state"],
                "made_at": now(),
                "signed_by": desk.person,
                "why": "signed",
            }
        )
        return {"signed": {"version": len(slide.versions), "state": sent["state"]}, **slide.json(desk.person)}

    @app.post("/api/session")
    async def log_in(request: Request) -> Json:
        if (await request.json())["password"] != PASSWORD:
            raise Refused(403, "wrong_password", "The password is wrong.")
        desk.is_logged_in = True
        return {"name": desk.person, "csrf": desk.csrf}

    @app.get("/api/session")
    def session() -> Json:
        return {"name": desk.person, "csrf": desk.csrf}


def _store(slide: Slide, person: str, change: Json) -> Json:
    cell, outcome, text = slide.cell(change["cell_id"]), "stored", None
    if change["key"] not in slide.keys:
        if cell["seen"] != change["seen"]:
            outcome, text = "conflict", "Somebody has labelled the cell since."
        else:
            slide.keys[change["key"]] = outcome
            slide.label(person, change["cell_id"], change["label"], change["key"])
    return {"key": change["key"], "cell_id": change["cell_id"], "outcome": outcome, "text": text}


def _add_reading_routes(app: FastAPI, desk: FrontEndDesk, page: Callable[..., HTMLResponse]) -> None:
    chance = random.Random(4)
    paths = [chance.choice(image_paths(chance.choice(CELL_CLASSES))) for _ in range(40)]

    def outcomes(stored: list[Json], changes: list[Json]) -> Json:
        known = {one["key"] for one in stored}
        stored += [change for change in changes if change["key"] not in known]
        return {
            "outcomes": [
                {"key": change["key"], "cell_id": change["cell_id"], "outcome": "stored", "text": None}
                for change in changes
            ]
        }

    @app.get("/blind/cells/{cell_id}/image")
    def blind_image(cell_id: int) -> Response:
        return Response(paths[cell_id].read_bytes(), media_type="image/jpeg")

    @app.get("/blind")
    def blind_page() -> HTMLResponse:
        done = {one["cell_id"] for one in desk.blind}
        left = [{"cell_id": at, "image": f"/blind/cells/{at}/image"} for at in range(20) if at not in done]
        return page(
            "blind.html.j2",
            blind={"mode": "sample", "cells": left, "lines": lines(), "n_wanted": 20, "n_done": len(done)},
        )

    @app.post("/api/blind")
    async def blind(request: Request) -> Json:
        return outcomes(desk.blind, (await request.json())["changes"])

    @app.get("/adjudicate")
    def adjudication_page() -> HTMLResponse:
        said = [
            {
                "by": "bmeyer",
                "label": "BL",
                "name": "BL blast",
                "note": "fine chromatin, nucleolus",
                "at": moments(2)[0],
            },
            {"by": "cdupont", "label": "VLY", "name": "VLY variant lymphocyte", "note": None, "at": moments(2)[1]},
        ]
        done = {one["cell_id"] for one in desk.adjudications}
        cells = [
            {
                "cell_id": at,
                "slide": {"slide_id": 1, "barcode": "S-001"},
                "image": f"/blind/cells/{at}/image",
                "labels": said,
                "seen": at + 50,
            }
            for at in range(3)
            if at not in done
        ]
        return page("adjudicate.html.j2", disputes={"cells": cells, "lines": lines()})

    @app.post("/api/adjudications")
    async def adjudicate(request: Request) -> Json:
        return outcomes(desk.adjudications, (await request.json())["changes"])


@contextmanager
def front_end_desk(port: int = 0) -> Iterator[FrontEndDesk]:
    """Serves a desk from a thread while the context is open."""
    desk = FrontEndDesk()
    server = uvicorn.Server(uvicorn.Config(create_app(desk), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    desk.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield desk
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    with front_end_desk(8300) as served:
        for cells_of_slide in (120, 500, 2000, 0, 1):
            print(served.url + f"/slides/{served.make_slide(cells_of_slide, barcode=f'S-{cells_of_slide}')}")
        threading.Event().wait()
