"""Every route of the desk: who may use it, and what it makes of strangers, other sites, forged tokens and bad input."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from fastapi.params import Form
from fastapi.routing import APIRoute

from bloodcell.review.guards import MAX_BODY_BYTES, POLICY
from bloodcell.review.local_users import make_link
from bloodcell.settings import Settings
from tests.laboratory import at_once
from tests.review.desk import PASSWORD, PEOPLE, Reader, RunningDesk, Slide, new_keys
from tests.review.route_table import ACCESS, OPEN, ROLES, Material, Row, enter_link, markdown, route_table, routes_of

BAD_IDS = [
    "-1",
    "0",
    "9223372036854775808",
    "9" * 400,
    "1e3",
    "abc",
    "%00",
    "..%2f..",
    "１",
    "1;DROP",
    "%ff",
    "null",
    "1.5",
]
BAD_BODIES: list[tuple[str, bytes]] = [
    ("application/json", b""),
    ("application/json", b"{"),
    ("application/json", b"[]"),
    ("application/json", b"null"),
    ("application/json", b'"\\ud800"'),
    ("application/json", b"\xff\xfe{}"),
    ("application/json", b"[" * 100_000),
    ("application/json", b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    ("application/json", b'{"changes": 1e999, "key": NaN}'),
    ("application/json", b'{"__proto__": {"is_admin": true}}'),
    ("text/plain", b'{"take_over": true}'),
    ("text/xml", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'),
    ("application/x-www-form-urlencoded", b"take_over=true&csrf=1"),
    ("multipart/form-data", b"no boundary"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1"),
    ("application/json; charset=utf-7", b"+AHsAfQ-"),
    ("", b"{}"),
    ("\xe4", b"{}"),
]


@pytest.fixture(scope="module")
def table(running_desk: RunningDesk) -> list[Row]:
    """What every route answers to everybody."""
    return route_table(running_desk)


@pytest.fixture(scope="module")
def slide(running_desk: RunningDesk) -> Slide:
    """A slide that the tests here share."""
    return running_desk.slide({"neutrophil": 3})


@pytest.fixture
def anna(running_desk: RunningDesk) -> Iterator[Reader]:
    """A reader who is logged in."""
    with running_desk.client("anna") as anna:
        yield anna


def closed(table: list[Row]) -> list[Row]:
    """Returns the routes that need a log-in."""
    return [row for row in table if ACCESS[row.name] != OPEN]


def test_somebody_has_said_of_every_route_who_may_use_it(running_desk: RunningDesk) -> None:
    assert {f"{method} {path}" for method, path in routes_of(running_desk)} == set(ACCESS)


def test_only_the_log_in_the_health_and_the_styles_answer_a_stranger(table: list[Row]) -> None:
    assert {row.name: row.stranger for row in closed(table) if row.stranger != 401} == {}
    opened = {urlsplit(row.path).path.split("/")[1] for row in table if ACCESS[row.name] == OPEN}
    assert opened == {"healthz", "static", "login", "enter", "api"}
    of_the_api = {row.name: row.stranger for row in table if row.path.startswith("/api/") and ACCESS[row.name] == OPEN}
    assert of_the_api == {"GET /api/session": 401, "POST /api/session": 200}


def test_a_browser_that_is_not_logged_in_is_sent_to_the_log_in(running_desk: RunningDesk, table: list[Row]) -> None:
    material = Material.of(running_desk)
    with running_desk.stranger() as stranger:
        for row in closed(table):
            if row.method == "GET":
                sent = stranger.get(material.path(row.path), headers={"accept": "text/html"})
                assert sent.status_code == 303, row.name
                assert sent.headers["location"].startswith("/login"), row.name


def test_each_role_may_use_exactly_its_routes(table: list[Row]) -> None:
    found = {
        row.name: {role for role, status in row.by_role.items() if status not in (401, 403)} for row in closed(table)
    }
    assert found == {row.name: set(ACCESS[row.name]) for row in closed(table)}
    assert {row.name: row.by_role for row in table if max(row.by_role.values()) >= 500} == {}


def test_a_forged_a_stolen_and_an_ended_token_are_worth_nothing(table: list[Row]) -> None:
    assert {row.name: row.ended for row in closed(table) if row.ended != {401}} == {}


def test_no_other_site_can_make_a_browser_change_anything(table: list[Row]) -> None:
    assert {row.name: row.other_site for row in table if row.method != "GET" and row.other_site != {403}} == {}


def test_nothing_changes_without_the_token_of_the_persons_own_page(table: list[Row]) -> None:
    found = {row.name: row.without_token for row in closed(table) if row.method != "GET" and row.without_token != {403}}
    assert found == {}


def test_no_route_takes_ten_megabytes(table: list[Row]) -> None:
    assert {row.name: row.too_large for row in table if row.method != "GET" and row.too_large != {413}} == {}


def test_the_table_is_markdown_with_a_line_for_each_route(table: list[Row]) -> None:
    lines = markdown(table).splitlines()
    assert len(lines) == len(table) + 2
    assert len({line.count(" | ") for line in lines}) == 1


def test_a_body_is_taken_up_to_the_limit_and_not_above(anna: Reader, slide: Slide) -> None:
    path, filled = f"/api/slides/{slide.slide_id}/lease", b'{"take_over": true}'
    fits = filled + b" " * (MAX_BODY_BYTES - len(filled))
    headers = {"content-type": "application/json"}
    assert anna.http.post(path, content=fits, headers=headers).status_code == 200
    assert anna.http.post(path, content=iter([fits]), headers=headers).status_code == 200
    assert anna.http.post(path, content=fits + b" ", headers=headers).status_code == 413
    assert anna.http.post(path, content=iter([fits, b" "]), headers=headers).status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e9", "0x10", "²", "99999999999999999999999", "5, 6"])
def test_a_length_that_is_none_is_refused(running_desk: RunningDesk, length: str) -> None:
    host, port = urlsplit(running_desk.url).hostname, urlsplit(running_desk.url).port
    with socket.create_connection((host, port), timeout=10) as connection:
        head = f"POST /login HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n"
        connection.sendall(head.encode("latin-1") + b"name=anna")
        assert connection.recv(100).split()[1] in (b"400", b"413")


def test_no_id_however_strange_is_an_error_of_the_server(running_desk: RunningDesk, slide: Slide) -> None:
    material = Material.of(running_desk)
    wrong: dict[str, int] = {}
    with running_desk.client("clara") as clara:
        for method, path in routes_of(running_desk):
            for name in ("slide_id", "cell_id", "number", "digest", "model_id", "token", "name:path"):
                if f"{{{name}}}" not in path:
                    continue
                for bad in BAD_IDS:
                    url = material.path(path.replace(f"{{{name}}}", bad)) if "/sprites/" not in path else ""
                    url = url or path.replace(f"{{{name}}}", bad).replace("{slide_id}", str(slide.slide_id)).replace(
                        "{digest}", "0" * 32
                    )
                    answer = clara.http.request(method, url, **material.body(f"{method} {path}", clara))
                    if answer.status_code == 200 and path == "/enter/{token}":
                        continue
                    if answer.status_code not in (401, 403, 404, 405, 422):
                        wrong[f"{method} {url[:80]}"] = answer.status_code
    assert wrong == {}


def test_an_id_of_another_slide_opens_nothing(running_desk: RunningDesk, anna: Reader, slide: Slide) -> None:
    other = running_desk.slide({"neutrophil": 2})
    cell = other.all_cells[0]
    for path in (f"/api/slides/{slide.slide_id}/cells/{cell}", f"/slides/{slide.slide_id}/cells/{cell}/image"):
        assert anna.http.get(path).status_code == 404
    sprite = str(anna.open(other)["sprites"][0]["url"]).replace(
        f"/slides/{other.slide_id}/", f"/slides/{slide.slide_id}/"
    )
    assert anna.http.get(sprite).status_code == 404
    (outcome,) = anna.label(slide, {cell: "ig"})["outcomes"]
    assert (outcome["outcome"], outcome["text"]) == ("refused", "The slide has no such cell any more.")
    assert running_desk.labels(other) == []
    assert anna.ask_comment(slide, "of a cell of another slide", cell).status_code == 422


def test_a_withdrawn_slide_is_gone_with_its_pictures(running_desk: RunningDesk, anna: Reader) -> None:
    slide = running_desk.slide({"neutrophil": 2})
    page = anna.open(slide)
    sprite = page["sprites"][0]["url"]
    anna.http.get(sprite).raise_for_status()
    running_desk.withdraw(slide)
    cell = slide.all_cells[0]
    for path in (
        sprite,
        f"/api/slides/{slide.slide_id}",
        f"/slides/{slide.slide_id}",
        f"/slides/{slide.slide_id}/cells/{cell}/image",
        f"/api/slides/{slide.slide_id}/cells/{cell}",
    ):
        assert anna.http.get(path).status_code == 404, path
    changes = {"changes": [{"key": new_keys(1)[0], "cell_id": cell, "label": "ig"}]}
    assert anna.http.post(f"/api/slides/{slide.slide_id}/labels", json=changes).status_code == 404
    assert running_desk.labels(slide) == []


def test_no_body_however_strange_is_an_error_of_the_server_or_changes_anything(
    running_desk: RunningDesk, slide: Slide
) -> None:
    material, wrong = Material.of(running_desk), {}
    before = [running_desk.rows(f"SELECT count(*) FROM bloodcell.{t}") for t in ("label", "slide_comment", "result")]
    for method, path in routes_of(running_desk):
        if method == "GET" or path == "/logout-everywhere":
            continue
        with running_desk.client("clara") as clara:
            for kind, body in BAD_BODIES:
                request = clara.http.build_request(method, material.path(path), content=body)
                if kind:
                    request.headers["content-type"] = kind
                status = clara.http.send(request).status_code
                if status >= 500 or (status == 200 and method != "DELETE"):
                    wrong[f"{method} {path} {kind} {body[:30]!r}"] = status
    after = [running_desk.rows(f"SELECT count(*) FROM bloodcell.{t}") for t in ("label", "slide_comment", "result")]
    assert wrong == {}
    assert before == after


@pytest.mark.parametrize("header", ["x-http-method-override", "x-http-method", "x-method-override"])
def test_a_method_in_a_header_or_a_field_is_not_used(
    running_desk: RunningDesk, anna: Reader, slide: Slide, header: str
) -> None:
    path = f"/api/slides/{slide.slide_id}/lease"
    anna.hold(slide, take_over=True)
    assert anna.http.get(path, headers={header: "DELETE"}).status_code == 405
    assert anna.http.post(f"{path}?_method=DELETE", json={}, headers={header: "DELETE"}).status_code == 200
    assert running_desk.rows("SELECT person FROM bloodcell.slide_lease WHERE slide_id = :s", s=slide.slide_id) == [
        ("anna",)
    ]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND", "OPTIONS", "HEAD", "FOO"])
def test_no_other_method_does_anything(running_desk: RunningDesk, anna: Reader, slide: Slide, method: str) -> None:
    for path in ("/", f"/slides/{slide.slide_id}", f"/api/slides/{slide.slide_id}/labels"):
        if method == "CONNECT":
            continue  # httpx sends none with a path
        assert anna.http.request(method, path).status_code in (400, 403, 405), path
        with running_desk.stranger() as stranger:
            assert stranger.request(method, path).status_code in (400, 401, 403, 405), path


def test_a_form_is_no_way_around_the_token_of_the_api(running_desk: RunningDesk, anna: Reader, slide: Slide) -> None:
    anna.hold(slide, take_over=True)
    del anna.http.headers["x-csrf-token"]
    for kind in ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-8", "text/plain"):
        refused = anna.http.delete(f"/api/slides/{slide.slide_id}/lease", headers={"content-type": kind})
        assert refused.status_code == 403
    assert running_desk.rows("SELECT person FROM bloodcell.slide_lease WHERE slide_id = :s", s=slide.slide_id) == [
        ("anna",)
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2fapi%2fslides%2f1", "/static/x/../../sessions", "/static//etc/passwd", "/enter/../sessions",
        "/static/%2e%2e/%2e%2e/sessions", "//sessions", "/SESSIONS", "/sessions/", "/./sessions", "/login/../sessions",
        "/healthz/../sessions", "/healthz/x", "/login/x", "/docs", "/redoc", "/openapi.json", "/.git/config",
        "/metrics",
    ],
)  # fmt: skip
def test_no_way_of_writing_a_path_gets_around_the_log_in(running_desk: RunningDesk, path: str) -> None:
    host, port = urlsplit(running_desk.url).hostname, urlsplit(running_desk.url).port
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] in (b"401", b"403", b"404"), answer[:200]
    assert b"token_digest" not in answer


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
        "/\t/evil.example", "javascript:alert(1)", "http://[", "http://[::1", "/%0d%0aset-cookie:x=1",
        "/\r\nset-cookie: x=1", "/.//evil.example", "https:evil.example", "//evil.example\\@127.0.0.1",
        "/\u2028", "/ü", "", " /", "http:///evil.example", "/x" * 90,
    ],
)  # fmt: skip
def test_a_log_in_leads_to_no_other_site(running_desk: RunningDesk, target: str) -> None:
    referer = quote(target, safe=":/\\[]@")
    with running_desk.client("anna") as anna:
        answers = [
            anna.http.get(f"/login?next={quote(target, safe='')}"),
            anna.http.post("/language", data={"language": "en", "csrf": anna.csrf}, headers={"referer": referer}),
        ]
    with running_desk.stranger() as stranger:
        page = stranger.get(f"/login?next={quote(target, safe='')}")
        assert page.status_code == 200
        answers.append(stranger.post("/login", data={"name": "anna", "password": PASSWORD, "next": target}))
    for answer in answers:
        assert answer.status_code == 303, answer.text
        location = httpx.URL(running_desk.url).join(answer.headers["location"])
        assert str(location).startswith(f"{running_desk.url}/"), answer.headers["location"]
        assert "x" not in answer.cookies


def test_every_answer_has_the_policy_and_is_kept_out_of_caches(
    running_desk: RunningDesk, anna: Reader, slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_desk.stranger() as stranger:
        answers = [
            stranger.get(path)
            for path in ("/healthz", "/login", "/", "/nothing", "/enter/x", "/static/x/y", "/login/oidc")
        ]
        answers += [stranger.get("/", headers={"accept": "text/html"})]
        answers += [stranger.post("/login", data={"name": "anna", "password": "wrong"})]
        answers += [stranger.post("/login", content=b" " * 1_000_000)]
        answers += [stranger.post("/login", data={}, headers={"origin": "https://evil.example"})]
    answers += [
        anna.http.get(path)
        for path in (
            "/",
            f"/slides/{slide.slide_id}",
            f"/api/slides/{slide.slide_id}",
            "/nothing",
            "/slides/x",
            "/sessions",
        )
    ]
    answers += [anna.ask_label(slide, {1: "?"}), anna.ask_sign(slide, digest="0" * 64)]

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("an error that nobody expected <script>")

    monkeypatch.setattr(type(running_desk.app.state.services.slides), "page", broken)
    close = {"connection": "close"}
    unexpected = [anna.http.get(f"/api/slides/{slide.slide_id}", headers=close)]
    unexpected += [anna.http.get(f"/slides/{slide.slide_id}", headers={**close, "accept": "text/html"})]
    for answer in unexpected:
        assert answer.status_code == 500
        assert "nobody expected" not in answer.text
    for answer in (*answers, *unexpected):
        told = f"{answer.request.method} {answer.request.url} {answer.status_code}"
        assert answer.headers.get("content-security-policy") == POLICY, told
        assert answer.headers.get("x-content-type-options") == "nosniff", told
        assert answer.headers.get("cache-control") == "no-store", told
        assert answer.headers.get("x-frame-options") == "DENY", told
        assert "server" not in answer.headers, told


def test_pictures_are_kept_by_the_persons_browser_only(anna: Reader, slide: Slide) -> None:
    for path in (anna.open(slide)["sprites"][0]["url"], f"/slides/{slide.slide_id}/cells/{slide.all_cells[0]}/image"):
        answer = anna.http.get(path)
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_link_sets_a_password_once(running_desk: RunningDesk) -> None:
    path = enter_link(running_desk)
    password = {"password": "nine quiet owls at noon", "again": "nine quiet owls at noon"}
    with running_desk.stranger() as stranger:
        assert stranger.get(path).status_code == 200
        assert stranger.post(path, data={**password, "again": "other"}).status_code == 422
        assert stranger.post(path, data={"password": "short", "again": "short"}).status_code == 422
        assert stranger.post(path, data=password).status_code == 303
        assert stranger.post(path, data=password).status_code == 403
        assert stranger.get(path).status_code == 403
        assert stranger.get("/enter/x").status_code == 403


def test_a_session_goes_on_for_the_person_who_logs_in_again_on_the_page(
    running_desk: RunningDesk, slide: Slide
) -> None:
    with running_desk.client("anna") as anna:
        session = running_desk.sessions.of(anna.http.cookies["bloodcell_desk"])
        assert session is not None
        running_desk.sessions.end(session)
        assert anna.http.get(f"/api/slides/{slide.slide_id}").status_code == 401
        wrong = anna.http.post("/api/session", json={"name": "anna", "password": "wrong"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (403, "wrong_password")
        anna.csrf = anna.ok("POST", "/api/session", json={"name": "anna", "password": PASSWORD})["csrf"]
        anna.http.headers["x-csrf-token"] = anna.csrf
        anna.open(slide)
        assert anna.label(slide, {slide.all_cells[0]: "ig"})["outcomes"][0]["outcome"] == "stored"


def test_a_cookie_over_tls_belongs_to_this_host_alone(running_desk: RunningDesk) -> None:
    from bloodcell.review.login_pages import cookie_name

    settings = Settings(data_dir=running_desk.settings.data_dir, desk_public_url="https://desk.example.org")
    assert cookie_name(settings) == "__Host-bloodcell"


def test_guessing_passwords_is_slowed_down(running_desk: RunningDesk) -> None:
    name = f"guessed-{new_keys(1)[0][:8]}"
    make_link(running_desk.settings.users_file, name, ["reader"])
    statuses: list[Any] = []
    with running_desk.stranger() as stranger:
        for _ in range(14):
            statuses.append(stranger.post("/login", data={"name": name, "password": "wrong"}).status_code)
    assert statuses[-1] == 429
    assert statuses.count(403) <= 10
    assert ROLES["reader"] == "anna"


FORM = {"content-type": "application/x-www-form-urlencoded"}
BAD_VALUES = (
    "\x00", "%", "\ud800", "x" * 5000, "-1", "9" * 30, "2026-02-30", "0000-00-00", "9999-12-31", "0001-01-01", "1e400",
    "'; DROP TABLE bloodcell.label; --", "%s%(x)s", "{{7*7}}", "\u202e", "\r\nx: y", "[1]", "２０２６-０１-０１",
    "2026-11-29T25:61:00+99:00", "2026-11-29T00:00:00.000000000001Z",
)  # fmt: skip


def parameters_of(desk: RunningDesk, kind: str) -> list[tuple[str, str, str]]:
    """Returns method, path and name of every parameter of a kind (query_params or body_params) that is no JSON body."""
    found = []
    for route in desk.app.routes:
        if isinstance(route, APIRoute):
            named = getattr(route.dependant, kind)
            is_form = kind == "body_params" and any(isinstance(each.field_info, Form) for each in named)
            for field in named if is_form or kind == "query_params" else ():
                found += [(method, route.path, field.alias) for method in sorted(route.methods)]
    return found


def test_no_value_of_a_query_or_a_form_is_an_error_of_the_server(running_desk: RunningDesk) -> None:
    material, wrong, asked = Material.of(running_desk), {}, 0
    for kind in ("query_params", "body_params"):
        for method, path, name in parameters_of(running_desk, kind):
            if path.startswith("/logout"):
                continue
            role = next(iter(sorted(ACCESS[f"{method} {path}"] or ["senior"])))
            with running_desk.client(ROLES[role]) as person:
                form = material.body(f"{method} {path}", person).get("data", {}) if kind == "body_params" else {}
                others = "".join(f"&{key}={quote(text)}" for key, text in form.items() if key != name)
                for value in BAD_VALUES:
                    field = f"{name}={quote(value, safe='', errors='surrogatepass')}"
                    url = material.path(path) + (f"?{field}" if kind == "query_params" else "")
                    body: dict[str, Any] = (
                        {"content": f"{field}{others}", "headers": FORM} if kind == "body_params" else {}
                    )
                    asked += 1
                    status = person.http.request(method, url, **body).status_code
                    if status >= 500:
                        wrong[f"{method} {path} {name}={value[:20]!r}"] = status
    assert wrong == {}
    assert asked > 300


def test_people_behind_one_address_log_in_at_once(running_desk: RunningDesk) -> None:
    statuses, names = [], iter([*PEOPLE] * 4)
    with running_desk.stranger() as ward:

        def log_in() -> None:
            statuses.append(ward.post("/login", data={"name": next(names), "password": PASSWORD}).status_code)

        assert at_once(24, log_in) == []
    assert statuses == [303] * 24
