"""A running review desk for tests: people of each role, slides without any model, and clients that are logged in.

The database, the application, its server and its socket are real. Slides have small JPEGs of their own in the store.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from PIL import Image

from bloodcell.cells.classes import CELL_CLASSES, CODES_OUT_OF_SCOPE, UNCLASSIFIED
from bloodcell.review.application import create_app
from bloodcell.review.local_users import add_user
from bloodcell.review.people import Person, Role
from bloodcell.review.services import open_services
from bloodcell.review.sessions import Session, Sessions
from bloodcell.review.writing import Desk
from bloodcell.settings import Settings
from bloodcell.storage.connections import APP_ROLE, DESK_ROLE, connect
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from bloodcell.withdrawal import WithdrawalRequest, withdraw_slide
from tests.conftest import _administer
from tests.laboratory import Laboratory
from tests.storage.conftest import until

if TYPE_CHECKING:
    from fastapi import FastAPI

    from bloodcell.storage.embedded import EmbeddedPostgres

Json = dict[str, Any]

PASSWORD: Final = "seven lamps under the bridge"  # noqa: S105 - of people who exist only in tests
PEOPLE: Final[Mapping[str, tuple[Role, ...]]] = {
    "vera": ("viewer",),
    "anna": ("reader",),
    "ben": ("reader",),
    "clara": ("senior",),
    "dora": ("senior",),
    "adam": ("administrator",),
}
"""Name -> roles of the people of every desk."""
_NO_TLS: Final = ssl.create_default_context()
USUAL: Final = {"neutrophil": 40, "lymphocyte": 16, "monocyte": 4}
"""A slide with enough leucocytes not to be withheld, and nothing to look at."""


@dataclass(frozen=True, slots=True)
class Slide:
    """A slide of a test.

    Attributes:
        slide_id: Its key.
        barcode: Its barcode.
        cells: Class, unclassified or code out of scope -> its cells.
    """

    slide_id: int
    barcode: str
    cells: Mapping[str, list[int]]

    @property
    def all_cells(self) -> list[int]:
        """Every cell, in the order in which they came."""
        return sorted(itertools.chain.from_iterable(self.cells.values()))


@dataclass(slots=True)
class Reader:
    """A person in a browser of their own: a client with the session's cookie, and what the person does.

    Attributes:
        name: The person.
        http: The client; it sends the CSRF token and the desk's own origin with every request.
        csrf: The token.
    """

    name: str
    http: httpx.Client
    csrf: str
    seen: dict[int, int | None] = field(default_factory=dict)

    def open(self, slide: Slide | int) -> Json:
        """Returns the slide's JSON, and remembers which label of each cell was the newest."""
        page = self.ok("GET", f"/api/slides/{_id(slide)}")
        self.seen |= {cell["cell_id"]: cell["seen"] for cell in page["cells"]}
        return page

    def label(self, slide: Slide | int, labels: Mapping[int, str | None], *, keys: Sequence[str] = ()) -> Json:
        """Labels cells; each change names the newest label that this person has seen."""
        answer: Json = self.ask_label(slide, labels, keys=keys).raise_for_status().json()
        self.seen |= {cell["cell_id"]: cell["seen"] for cell in answer["cells"]}
        return answer

    def ask_label(
        self, slide: Slide | int, labels: Mapping[int, str | None], *, keys: Sequence[str] = ()
    ) -> httpx.Response:
        """Asks to label cells, and returns whatever the answer is."""
        changes = [
            {"key": key, "cell_id": cell, "label": label, "seen": self.seen.get(cell)}
            for (cell, label), key in zip(labels.items(), keys or new_keys(len(labels)), strict=True)
        ]
        return self.http.post(f"/api/slides/{_id(slide)}/labels", json={"changes": changes})

    def ask_sign(self, slide: Slide | int, **changed: object) -> httpx.Response:
        """Asks to sign what the slide's page shows now, with every reason ticked; `changed` replaces parts of it."""
        signing = self.open(slide)["signing"]
        asked = {
            "digest": signing["digest"],
            "state": (signing["states"] or ["final"])[0],
            "reason": "counted again" if signing["needs_reason"] else None,
            "ticked": [each["name"] for each in signing["named"]],
            "password": PASSWORD,
        }
        return self.http.post(f"/api/slides/{_id(slide)}/sign", json={**asked, **changed})

    def ask_comment(self, slide: Slide | int, text: str, cell: int | None = None, key: str = "") -> httpx.Response:
        """Asks to store a comment."""
        asked = {"key": key or new_keys(1)[0], "cell_id": cell, "text": text}
        return self.http.post(f"/api/slides/{_id(slide)}/comments", json=asked)

    def hold(self, slide: Slide | int, *, take_over: bool = False) -> Json:
        """Takes or renews the lease of a slide, and returns who has it."""
        lease: Json = self.ok("POST", f"/api/slides/{_id(slide)}/lease", json={"take_over": take_over})["lease"]
        return lease

    def ok(self, method: str, path: str, **options: Any) -> Json:
        """Returns the JSON of an answer that has to be good."""
        answer: Json = self.http.request(method, path, **options).raise_for_status().json()
        return answer


@dataclass(frozen=True, slots=True)
class RunningDesk:
    """A desk with its database, its store and its people.

    Attributes:
        settings: The settings of the installation; `desk_url` is where it listens.
        laboratory: Writes slides, cells, calls and counts.
        app: The application.
        functions: Calls the database's functions of the desk, past the application.
        sessions: Sessions of people.
    """

    settings: Settings
    laboratory: Laboratory
    app: FastAPI
    functions: Desk
    sessions: Sessions
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    @property
    def url(self) -> str:
        """Where the desk listens."""
        return self.settings.desk_url

    @property
    def database_url(self) -> str:
        """URL of its database, as superuser."""
        return str(self.settings.plain_database_url)

    def session(self, name: str) -> Session:
        """Logs a person in, and returns the session."""
        session = self.sessions.of(self.token(name))
        assert session is not None
        return session

    def token(self, name: str) -> str:
        """Opens a session for a person, without the tenth of a second that a password takes; returns its token."""
        return self.sessions.open(Person(name, frozenset(PEOPLE[name])), "local")

    @contextmanager
    def client(self, name: str) -> Iterator[Reader]:
        """Yields a person who is logged in."""
        token = self.token(name)
        with self.stranger() as http:
            http.cookies.set("bloodcell_desk", token, domain="127.0.0.1")
            session = self.sessions.of(token)
            assert session is not None
            http.headers["x-csrf-token"] = session.csrf
            yield Reader(name, http, session.csrf)

    @contextmanager
    def stranger(self) -> Iterator[httpx.Client]:
        """Yields a client that is not logged in, with an address of its own: each may mistype a password."""
        number = next(self._numbers)
        address = f"127.{number // 65536 % 255}.{number // 256 % 256}.{number % 256}"
        # a context of its own takes each client 20 ms to make, and none speaks TLS
        transport = httpx.HTTPTransport(verify=_NO_TLS, local_address=address)
        headers = {"origin": self.url}
        with httpx.Client(base_url=self.url, timeout=60, headers=headers, transport=transport) as http:
            yield http

    def slide(
        self,
        cells: Mapping[str, int] | None = None,
        *,
        barcode: str = "",
        count: bool = True,
        resembles: Mapping[int, str] | None = None,
        **facts: object,
    ) -> Slide:
        """Makes a slide whose cells have calls and images, and counts it.

        Args:
            cells: Class, unclassified or code out of scope -> number of cells.
            barcode: Its barcode; made up if left out.
            count: Whether the slide gets a result.
            resembles: Number of an unclassified cell -> code out of scope that it resembles.
            facts: Columns of the slide.
        """
        laboratory = self.laboratory
        barcode = barcode or f"S-{next(self._numbers):05d}"
        slide_id = laboratory.slide(barcode, **{"patient_key": None, **facts})
        made: dict[str, list[int]] = {}
        for name, n in (USUAL if cells is None else cells).items():
            code = name if name in CODES_OUT_OF_SCOPE else None
            images = self.images(n)
            made[name] = laboratory.cells(slide_id, [code] * n, images=images)
            called = name if name in CELL_CLASSES else UNCLASSIFIED if name == UNCLASSIFIED else "lymphocyte"
            is_unclassified = called == UNCLASSIFIED
            laboratory.call(
                made[name],
                [called] * n,
                confidences=[0.4 if is_unclassified else 0.9] * n,
                resembles=resembles if is_unclassified else None,
            )
        if count and made:
            laboratory.count(slide_id)
        return Slide(slide_id, barcode, made)

    def images(self, n: int) -> list[str]:
        """Stores small JPEGs that differ, and returns their digests."""
        store = Store.of(self.settings)
        digests = []
        for _ in range(n):
            body = jpeg(next(self._numbers))
            digests.append(hashlib.sha256(body).hexdigest())
            store.put_image(digests[-1], body)  # not flushed: no test cuts the power
        return digests

    def image_path(self, sha256: str) -> Path:
        """Returns the file of an image in the store."""
        (path,) = Path(self.settings.store).glob(f"images/*/{sha256}*")
        return path

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Reads or changes rows as superuser; a change that a trigger refuses stays refused."""
        with connect(self.database_url).begin() as connection:
            result = connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def withdraw(self, slide: Slide) -> None:
        """Withdraws a slide, as `bloodcell withdraw` does."""
        request = WithdrawalRequest(slide.barcode, "wrong patient", "tests")
        withdraw_slide(self.settings, request)

    def labels(self, slide: Slide) -> list[tuple[int, str, str | None]]:
        """Returns every label of a slide as it was given: cell, person, label."""
        found = self.rows(
            "SELECT l.cell_id, l.labelled_by, l.label FROM bloodcell.cell_label l "
            "JOIN bloodcell.cell c USING (cell_id) WHERE c.slide_id = :slide ORDER BY l.label_id",
            slide=slide.slide_id,
        )
        return [(int(cell), str(by), label) for cell, by, label in found]


def new_keys(n: int) -> list[str]:
    """Returns keys as a browser makes them, one for each change."""
    return [str(uuid.uuid4()) for _ in range(n)]


def jpeg(seed: int) -> bytes:
    """Returns a small JPEG that no other seed has."""
    draw = random.Random(seed)
    image = Image.new("RGB", (40, 41), tuple(draw.randrange(256) for _ in range(3)))
    image.putpixel((seed % 40, seed // 40 % 41), (0, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", comment=f"cell {seed}".encode())
    return buffer.getvalue()


def desk_settings(folder: Path, database_url: str, port: int, **changed: Any) -> Settings:
    """Returns the settings of a desk on a port of this machine."""
    return Settings(
        data_dir=folder, database_url=database_url, desk_url=f"http://127.0.0.1:{port}", settle_s=0,
        **{"database_patience_s": 5, **changed},
    )  # fmt: skip


def add_people(settings: Settings) -> None:
    """Adds one person of each role, two readers and two seniors."""
    for name, roles in PEOPLE.items():
        add_user(settings.users_file, name, roles, PASSWORD)


@contextmanager
def free_port() -> Iterator[tuple[socket.socket, int]]:
    """Yields a listening socket on a free port of this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        yield listening, listening.getsockname()[1]


@contextmanager
def served(app: FastAPI, listening: socket.socket) -> Iterator[uvicorn.Server]:
    """Serves an application from a thread while the context is open."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    assert server.started
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def new_desk(folder: Path, database_url: str, **changed: Any) -> Iterator[RunningDesk]:
    """Serves a desk with a champion and its people, on a migrated database.

    Args:
        folder: The data folder.
        database_url: The database, as superuser.
        changed: Settings.
    """
    with free_port() as (listening, port):
        settings = desk_settings(folder, database_url, port, **changed)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        add_people(settings)
        laboratory = Laboratory(Database(connect(database_url, role=APP_ROLE), patience_s=5))
        laboratory.model()
        app = create_app(open_services(settings))
        with served(app, listening):
            desk = Database(connect(database_url, role=DESK_ROLE, keep=2), patience_s=5)
            functions = Desk(desk, laboratory.database, app.state.services.writer._rules)
            yield RunningDesk(settings, laboratory, app, functions, Sessions(desk, settings))
            desk.dispose()


@pytest.fixture(scope="module")
def running_desk(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDesk]:
    """A desk of a module's own, which its tests share: each makes its own slides."""
    name = f"desk_{uuid.uuid4().hex[:12]}"
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    with new_desk(tmp_path_factory.mktemp("desk"), postgres.url(name)) as desk:
        yield desk
    _administer(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _id(slide: Slide | int) -> int:
    return slide if isinstance(slide, int) else slide.slide_id
