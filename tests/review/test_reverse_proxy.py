"""The review desk behind the documented nginx: log-in over TLS, cookies, forged headers, other hosts, large bodies."""

from __future__ import annotations

import itertools
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bloodcell.review.guards import MAX_BODY_BYTES
from bloodcell.review.local_users import add_user
from bloodcell.settings import Settings
from bloodcell.storage.connections import APP_ROLE, connect
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import EmbeddedPostgres
from tests.conftest import ROOT, _administer
from tests.laboratory import Laboratory
from tests.reverse_proxy import DESK_NAME, HOST, NAME, Proxy, nginx, reverse_proxy
from tests.service.conftest import free_port

ORIGIN = f"https://{DESK_NAME}"
"""The public address of the desk. The proxy of these tests has another port, which neither it nor the desk looks at."""
PERSON, PASSWORD = "dr.a", "correct horse battery staple"
COOKIE = "__Host-bloodcell"
NUMBERS = itertools.count(1)
# the command of the container, which also notes whom the application takes for its client
SERVE = """
import sys
from bloodcell.review import serving
from bloodcell.settings import Settings

create_app = serving.create_app

def noting(services):
    app = create_app(services)
    async def noted(scope, receive, send):
        if scope["type"] == "http":
            print(scope["client"][0], scope["path"], flush=True)
        await app(scope, receive, send)
    return noted

serving.create_app = noting
serving.serve_desk(Settings(), host="127.0.0.1")
"""


@dataclass(frozen=True)
class Served:
    """A desk behind its proxy.

    Attributes:
        proxy: The proxy.
        url: The desk's own address.
        slide_id: A slide of three cells.
        cells: Its cells.
        log: Each request: the address of its client as the desk sees it, and its path.
    """

    proxy: Proxy
    url: str
    slide_id: int
    cells: list[int]
    log: Path

    def browser(self, address: str | None = None, forwarded_for: str | None = None) -> httpx.Client:
        """Returns a client that sends what a browser sends with the desk's own pages, from an address of its own."""
        client = self.proxy.client(address or f"127.1.0.{next(NUMBERS)}", forwarded_for, DESK_NAME)
        client.headers.update({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"})
        return client

    @contextmanager
    def logged_in(self) -> Iterator[httpx.Client]:
        """Yields a client of a person who has logged in, with the token of a page."""
        with self.browser() as client:
            done = log_in(client)
            assert done.status_code == 303, done.text
            page = client.get(f"/slides/{self.slide_id}")
            found = re.search(r'"csrf": ?"(\w+)"', page.text)
            assert found, page.text
            client.headers["X-CSRF-Token"] = found[1]
            yield client

    def client_of(self, path: str) -> str:
        """Returns the address from which the desk believes that the last request for a path came."""
        seen = [line.split(" ", 1) for line in self.log.read_text().splitlines()]
        return [client for client, seen_path in seen if seen_path == path][-1]


def log_in(client: httpx.Client, password: str = PASSWORD) -> httpx.Response:
    return client.post("/login", data={"name": PERSON, "password": password})


def changes(cell_id: int, label: str = "ig") -> dict[str, list[dict[str, object]]]:
    return {"changes": [{"key": str(uuid.uuid4()), "cell_id": cell_id, "label": label, "seen": None}]}


@pytest.fixture(scope="module")
def served(postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A desk as its container runs it, behind the documented nginx."""
    if nginx() is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    _administer(postgres, f"CREATE DATABASE behind_proxy TEMPLATE {template}")
    folder = tmp_path_factory.mktemp("desk")
    port = free_port()
    settings = Settings(
        data_dir=folder / "data",
        database_url=postgres.url("behind_proxy"),
        desk_url=f"http://{HOST}:{port}",
        desk_public_url=ORIGIN,
    )
    laboratory = Laboratory(Database(connect(postgres.url("behind_proxy"), role=APP_ROLE), patience_s=0))
    laboratory.model()
    slide_id = laboratory.slide("S-1")
    cells = laboratory.cells(slide_id, ["SNE"] * 3)
    laboratory.call(cells, ["neutrophil", "neutrophil", "lymphocyte"])
    laboratory.count()
    add_user(settings.users_file, PERSON, ["reader"], PASSWORD)
    environment = os.environ | settings.as_variables() | {"PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stdout=log, stderr=log)
    try:
        wait_for(port, process, folder / "log")
        (folder / "proxy").mkdir()
        with reverse_proxy(folder / "proxy", free_port(), free_port(), desk=settings.desk_url) as proxy:
            yield Served(proxy, settings.desk_url, slide_id, cells, folder / "log")
    finally:
        process.terminate()
        process.wait(20)
        _administer(postgres, "DROP DATABASE behind_proxy WITH (FORCE)")


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as tried:
            if tried.connect_ex((HOST, port)) == 0:
                return
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_a_person_logs_in_and_labels_over_tls(served: Served) -> None:
    with served.logged_in() as client:
        told = client.post(f"/api/slides/{served.slide_id}/labels", json=changes(served.cells[0]))

    assert told.status_code == 200, told.text
    assert [each["outcome"] for each in told.json()["outcomes"]] == ["stored"]


def test_the_cookie_is_for_this_host_and_tls_only_and_no_script_reads_it(served: Served) -> None:
    with served.browser() as client:
        (cookie,) = log_in(client).headers.get_list("set-cookie")

    name, *attributes = (part.strip() for part in cookie.split(";"))
    assert name.startswith(f"{COOKIE}=")
    assert {each.lower() for each in attributes} == {"httponly", "path=/", "samesite=strict", "secure"}


@pytest.mark.parametrize("claimed", ["203.0.113.7", "127.0.0.1", "203.0.113.7, 127.0.0.1", "not an address"])
def test_what_a_client_claims_of_its_address_is_not_believed(served: Served, claimed: str) -> None:
    path = f"/slides/{uuid.uuid4()}"
    with served.browser("127.0.0.6", claimed) as client:
        client.headers.update(
            {"Forwarded": "for=203.0.113.7", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
        )
        answer = client.get(path)

    assert served.client_of(path) == "127.0.0.6"
    assert "evil.example" not in answer.headers["location"]


def test_past_the_proxy_nobody_but_the_proxys_machine_is_believed(served: Served) -> None:
    path = f"/slides/{uuid.uuid4()}"
    transport = httpx.HTTPTransport(local_address="127.0.0.6")
    with httpx.Client(base_url=served.url, transport=transport, headers={"X-Forwarded-For": "203.0.113.7"}) as client:
        client.get(path)

    assert served.client_of(path) == "127.0.0.6"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-site"},
        {"Origin": f"http://{DESK_NAME}"},
        {"Origin": f"https://{DESK_NAME}.evil.example"},
        {"Origin": "null"},
    ],
    ids=["another site", "Airflow on the same proxy", "without TLS", "a name that begins the same", "a sandbox"],
)
def test_a_request_of_another_origin_changes_nothing(served: Served, headers: dict[str, str]) -> None:
    with served.logged_in() as client:
        client.headers.update(headers)
        answers = [
            client.post(f"/api/slides/{served.slide_id}/labels", json=changes(served.cells[1])),
            log_in(client),
            client.post("/logout", data={"csrf": client.headers["X-CSRF-Token"]}),
        ]
        client.headers.update({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"})
        slide = client.get(f"/api/slides/{served.slide_id}").json()

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    (cell,) = (each for each in slide["cells"] if each["cell_id"] == served.cells[1])
    assert cell["labels"] == []


def test_another_host_gets_no_answer_of_the_desk(served: Served) -> None:
    with served.browser() as client:
        misdirected = client.get("/login", headers={"Host": "evil.example"})
        other_site = client.get("/login", headers={"Host": NAME})

    assert misdirected.status_code == 421
    assert other_site.status_code == 502, "Airflow, which does not run here"
    trust = ssl.create_default_context(cafile=str(served.proxy.authority))
    trust.check_hostname = False
    for name in (None, "evil.example"):
        with socket.create_connection((HOST, served.proxy.port)) as raw, pytest.raises(ssl.SSLError):
            trust.wrap_socket(raw, server_hostname=name)


@pytest.mark.parametrize("path", ["/login", "/api/slides/{slide_id}/labels", "/api/slides/{slide_id}/comments"])
@pytest.mark.parametrize("size", [600_000, 10_000_000])
def test_a_large_body_is_refused_by_the_proxy_and_by_the_desk_itself(served: Served, path: str, size: int) -> None:
    path = path.format(slide_id=served.slide_id)
    with served.logged_in() as client, httpx.Client(base_url=served.url, headers=client.headers) as direct:
        refused = client.post(path, content=b"x" * size)
        refused_itself = direct.post(path, content=b"x" * size)

    assert (refused.status_code, "nginx" in refused.text) == (413, True)
    assert (refused_itself.status_code, refused_itself.json()["error"]["code"]) == (413, "too_large")


def test_the_proxy_passes_whatever_the_desk_accepts(served: Served) -> None:
    with served.logged_in() as client:
        answer = client.post(f"/api/slides/{served.slide_id}/labels", content=b" " * MAX_BODY_BYTES)

    assert answer.status_code == 422, "no JSON, but not too large"


def test_an_endless_body_is_refused(served: Served) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(20_000):
            yield b"x" * 1000

    with served.logged_in() as client:
        try:
            status = client.post(f"/api/slides/{served.slide_id}/labels", content=endless()).status_code
        except httpx.WriteError:  # the proxy has closed the connection
            status = 413

    assert status == 413


def test_the_answers_have_one_rule_for_tls_and_the_desks_policy(served: Served) -> None:
    with served.browser() as client:
        page, missing, own = client.get("/login"), client.get("/healthz"), client.get("/none/../login")

    for answer in (page, missing, own):
        assert answer.headers.get_list("strict-transport-security") == ["max-age=31536000"]
    assert missing.status_code == 404, "compose and Kubernetes do not come this way"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert not {"server-timing", "x-powered-by"} & set(page.headers)
    assert page.headers["server"] == "nginx", "without a version"


def test_plain_http_leads_to_the_desk_over_tls(served: Served) -> None:
    answer = httpx.get(
        f"http://{HOST}:{served.proxy.plain_port}/slides/1?a=b", headers={"Host": DESK_NAME}, trust_env=False
    )

    assert (answer.status_code, answer.headers["location"]) == (308, f"{ORIGIN}/slides/1?a=b")


def test_browsers_are_offered_http_2_and_old_protocols_are_refused(served: Served) -> None:
    trust = ssl.create_default_context(cafile=str(served.proxy.authority))
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((HOST, served.proxy.port)) as raw,
        trust.wrap_socket(raw, server_hostname=DESK_NAME) as secure,
    ):
        assert secure.selected_alpn_protocol() == "h2"
    old = ssl.create_default_context(cafile=str(served.proxy.authority))
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((HOST, served.proxy.port)) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname=DESK_NAME)


def test_a_strangers_guesses_are_limited_whatever_address_they_claim_and_keep_nobody_out(served: Served) -> None:
    def guess(n: int) -> httpx.Response:
        with served.browser("127.0.0.18", f"203.0.113.{n}") as client:
            return log_in(client, "guessed")

    with served.browser("127.0.0.19") as colleague:
        assert log_in(colleague).status_code == 303
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(guess, range(24)))

    by_proxy = [answer for answer in answers if answer.status_code == 429 and "nginx" in answer.text]
    assert len(by_proxy) > 8
    assert {answer.status_code for answer in answers} == {403, 429}
    with served.browser("127.0.0.19") as colleague:
        assert log_in(colleague).status_code == 303
