"""Every page of the desk in other languages, in a real browser: no English is left, and nothing is beside the window.

In one language of the tests each letter is its full-width form, so that an English text that does not go through the
catalogue is one with ordinary letters.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest
from playwright.sync_api import Browser, Page, expect

from bloodcell.cells.classes import CODES_OUT_OF_SCOPE
from bloodcell.review.services import LANGUAGE_COOKIE
from bloodcell.review.shaped_texts import PLACEHOLDER
from bloodcell.review.texts import read_catalogues
from bloodcell.storage.embedded import EmbeddedPostgres
from tests.conftest import _administer
from tests.review.desk import PASSWORD, PEOPLE, RunningDesk, Slide, new_desk
from tests.review.desk_texts import extracted
from tests.review.test_texts import HOSTILE, write_catalogue

pytestmark = pytest.mark.slow
PICTURES = Path(gettempdir()) / "bloodcell-languages"
"""Screenshots of the last run, to look at."""
FULL_WIDTH, HOSTILE_LANGUAGE = "eo", "la"
NO_TEXT = re.compile(
    rf"\b({'|'.join([*PEOPLE, *CODES_OUT_OF_SCOPE])}|UTC|min|bloodcell [\w.+-]+|[0-9a-f]{{8,}}|X_\d+\.jpg|"
    r"inception_v3_svm|xxx|counted again)\b"
)
"""Names, codes, units, and what people and the laboratory wrote: these are the same in every language."""

TEXTS_OF_PAGE = """() => {
  const said = [];
  const skipped = "script, style, noscript, bdi, code, kbd, select[name=language], [lang]:not(html), .brand";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    if (node.data.trim() && !node.parentElement.closest(skipped)) said.push(node.data.trim());
  for (const name of ["aria-label", "title", "alt", "placeholder"])
    for (const element of document.querySelectorAll(`body [${name}]`))
      if (!element.closest(skipped)) said.push(element.getAttribute(name));
  const title = document.title.replace(/ · bloodcell$/, "");
  return [title, ...said].filter(Boolean);
}"""
BESIDE = """width => [...document.querySelectorAll("body *")]
  .filter(element => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".unseen, .skip, .wide > *"))
  .filter(element => element.getBoundingClientRect().right > width + 1)
  .map(element => element.outerHTML.slice(0, 160))"""
CUT = """() => [...document.querySelectorAll("button, .button, .chip, th, td, summary, nav a, label, h1, h2, h3, dt, dd, option, p")]
  .filter(element => element.checkVisibility({ visibilityProperty: true }) && element.clientWidth > 0)
  .filter(element => !element.closest(".unseen, .skip, .cell, svg"))
  .filter(element => element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline")
  .map(element => element.outerHTML.slice(0, 160))"""


def full_width(text: str) -> str:
    """Returns a text in which every ASCII letter outside braces is its full-width form."""
    wide = "".join(chr(ord(each) + 0xFEE0) if each.isascii() and each.isalpha() else each for each in text)
    names = iter(PLACEHOLDER.findall(text))
    return re.sub(r"\{[^}]*\}", lambda _: "{" + next(names) + "}", wide)


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    write_catalogue(folder, FULL_WIDTH, {text: full_width(text) for text in extracted()})
    write_catalogue(
        folder,
        HOSTILE_LANGUAGE,
        {text: " ".join([HOSTILE, *(f"{{{name}}}" for name in PLACEHOLDER.findall(text))]) for text in extracted()},
    )
    return folder


@pytest.fixture(scope="module")
def foreign_desk(
    postgres: EmbeddedPostgres, template: str, languages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDesk]:
    """A desk with catalogues of its own, and something on every page."""
    name = f"desk_{uuid.uuid4().hex[:12]}"
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    with new_desk(tmp_path_factory.mktemp("desk"), postgres.url(name), desk_texts_dir=languages) as desk:
        _fill(desk)
        yield desk
    _administer(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _fill(desk: RunningDesk) -> None:
    """Makes slides: 1 to review, with everything that can be missing; 2 to sign; 3 signed twice; others to read."""
    facts = {"analyser": "9600", "order_id": "77-1", "patient_key": "p-1"}
    mixed = {
        "neutrophil": 30, "lymphocyte": 9, "erythroblast": 4, "ig": 3, "platelet": 2, "unclassified": 5,
        "BL": 2, "VLY": 2, "SMU": 2, "NC": 1, "GT": 1,
    }  # fmt: skip
    first = desk.slide(mixed, barcode="10001", **facts)
    desk.laboratory.label(first.cells["lymphocyte"][:2], ["BL", "VLY"], by="ben")
    desk.laboratory.label(first.cells["lymphocyte"][:1], ["monocyte"], by="dora", note="xxx")
    desk.laboratory.count(first.slide_id)
    second = desk.slide({"neutrophil": 120, "lymphocyte": 30, "ig": 6}, barcode="10002", **facts)
    third = desk.slide({"neutrophil": 100, "lymphocyte": 60}, barcode="10003", analyser="9600")
    read = desk.slide({"eosinophil": 8}, barcode="10004", analyser="9600")
    desk.slide({}, barcode="10005", analyser="9600", count=False)
    desk.slide(barcode="10006", analyser="9600")
    desk.laboratory.sample(read.all_cells[:6], read_twice=read.all_cells[:2])
    with desk.client("anna") as anna:
        anna.hold(third)
        anna.open(third)
        anna.ask_comment(third, "xxx", None).raise_for_status()
        for cell in third.cells["lymphocyte"][:2]:
            anna.label(third, {cell: "monocyte"})
            anna.ask_sign(third).raise_for_status()
        anna.label(third, {third.cells["lymphocyte"][2]: "monocyte"})
        anna.ok("DELETE", f"/api/slides/{third.slide_id}/lease")
    desk.laboratory.count(third.slide_id)
    assert first.slide_id == 1
    assert isinstance(second, Slide)


Act = Callable[[Page], None]


def _opened(page: Page) -> None:
    expect(page.locator("#desk > *, main h1").first).to_be_visible()


def _large(page: Page) -> None:
    expect(page.locator("[data-cell]").first).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    expect(page.locator("dialog .bars li")).to_have_count(8)


def _keys(page: Page) -> None:
    expect(page.locator("[data-cell]").first).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("dialog.help")).to_be_visible()


def _menu(page: Page) -> None:
    expect(page.locator("[data-cell]").first).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator("[role=menu]")).to_be_visible()


def _person(page: Page) -> None:
    page.locator("details.menu-of-person summary").click()


def _labelled(page: Page) -> None:
    """Labels two cells, undoes one, and sends a comment and a signature that are refused."""
    expect(page.locator("[data-cell]").first).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.press("2")
    page.keyboard.press("u")
    expect(page.locator(".saving-state .spinner")).to_have_count(0)
    page.wait_for_timeout(100)


def _refused(page: Page) -> None:
    """Tries to sign with a wrong password."""
    form = page.locator("#signing form")
    for box in form.locator("input[type=checkbox], input[type=radio]").all():
        box.check()
    form.locator("input[type=password]").fill("wrong")
    form.locator("button.primary").click()
    expect(form.locator("[role=alert]")).to_be_visible()


def _chosen(page: Page) -> None:
    expect(page.locator(".keys button").first).to_be_visible()
    page.keyboard.press("2")


def _wrong(page: Page) -> None:
    page.locator("input[name=name]").fill("anna")
    page.locator("input[name=password]").fill("wrong")
    page.locator("button.primary").click()
    expect(page.locator("[role=alert]")).to_be_visible()


def _log_in_again(page: Page) -> None:
    page.context.clear_cookies(name="bloodcell_desk")
    page.keyboard.press("n")
    page.keyboard.press("2")
    expect(page.locator("dialog.log-in")).to_be_visible()


PAGES: dict[str, tuple[str, str, Act]] = {
    "worklist": ("clara", "/?state=all", _opened),
    "worklist of a reader": ("anna", "/", _opened),
    "worklist without a slide": ("anna", "/?barcode=none", _opened),
    "menu of the person": ("clara", "/", _person),
    "slide": ("clara", "/slides/1", _opened),
    "cell": ("clara", "/slides/1", _large),
    "keys": ("clara", "/slides/1", _keys),
    "menu": ("clara", "/slides/1", _menu),
    "slide to sign": ("clara", "/slides/2", _opened),
    "slide that was signed": ("clara", "/slides/3", _opened),
    "slide of a viewer": ("vera", "/slides/3", _opened),
    "labelled": ("dora", "/slides/6", _labelled),
    "log in again": ("dora", "/slides/6", _log_in_again),
    "signature refused": ("clara", "/slides/2", _refused),
    "history": ("clara", "/slides/1/history", _opened),
    "history of a signed slide": ("clara", "/slides/3/history", _opened),
    "version": ("clara", "/slides/1/versions/1", _opened),
    "signed version": ("clara", "/slides/3/versions/2", _opened),
    "reported": ("clara", "/reported", _opened),
    "reported, with a mistake": ("clara", "/reported?date=never", _opened),
    "blind": ("ben", "/blind", _chosen),
    "second": ("clara", "/second", _opened),
    "adjudication": ("clara", "/adjudication", _opened),
    "training queue": ("clara", "/training-queue", _opened),
    "statistics": ("clara", "/statistics", _opened),
    "statistics of a reader": ("anna", "/statistics", _opened),
    "people": ("adam", "/sessions", _opened),
    "not allowed": ("anna", "/second", _opened),
    "no such slide": ("clara", "/slides/999", _opened),
    "no such page": ("clara", "/nothing", _opened),
    "log-in": ("", "/login", _wrong),
}


@pytest.fixture
def shown(browser: Browser, foreign_desk: RunningDesk) -> Iterator[Callable[[str, str], Page]]:
    """A function that shows one of PAGES in a language."""
    contexts = []
    said: list[str] = []

    def opened(name: str, language: str) -> Page:
        person, path, act = PAGES[name]
        context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        contexts.append(context)
        context.set_default_timeout(8000)
        cookies = {LANGUAGE_COOKIE: language, **({"bloodcell_desk": foreign_desk.token(person)} if person else {})}
        context.add_cookies([{"name": key, "value": value, "url": foreign_desk.url} for key, value in cookies.items()])
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda told: said.append(told.text) if told.type == "error" else None)
        page.goto(foreign_desk.url + path)
        act(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [text for text in said if "Failed to load resource" not in text] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_text_of_a_page_goes_through_the_catalogue(name: str, shown: Callable[[str, str], Page]) -> None:
    page = shown(name, FULL_WIDTH)
    texts = page.evaluate(TEXTS_OF_PAGE)
    assert page.locator("html").get_attribute("lang") == FULL_WIDTH
    assert {text for text in texts if re.search("[A-Za-z]{2,}", NO_TEXT.sub("", text))} == set()


@pytest.mark.parametrize("language", ["es", "de"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_another_language_shows_nothing_in_english_and_fits(
    name: str, language: str, shown: Callable[[str, str], Page]
) -> None:
    page = shown(name, language)
    translations = read_catalogues()[language].texts
    english = {text for text, translation in translations.items() if text != translation} - set(translations.values())
    assert [text for text in page.evaluate(TEXTS_OF_PAGE) if text in english] == []
    assert "auto" in page.locator("footer.machine-made").inner_text().lower() or language == "de"
    PICTURES.mkdir(exist_ok=True)
    for width, height in ((1280, 800), (640, 400)):  # the second is 200 %
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(100)
        page.screenshot(path=PICTURES / f"{language} {name} {width}.png", full_page=width == 1280)
        assert page.evaluate(BESIDE, width) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT) == []


@pytest.mark.parametrize("name", ["worklist", "slide", "cell", "blind", "history", "statistics", "log-in"])
def test_a_hostile_translation_runs_nothing(name: str, shown: Callable[[str, str], Page]) -> None:
    page = shown(name, HOSTILE_LANGUAGE)
    assert page.locator("img[src=x]").count() == 0
    assert any(HOSTILE[:20] in text for text in page.evaluate(TEXTS_OF_PAGE))


def test_a_person_changes_the_language_in_the_menu(shown: Callable[[str, str], Page]) -> None:
    page = shown("worklist", "es")
    page.locator("details.menu-of-person summary").click()
    page.locator("select[name=language]").select_option("de")
    page.locator("form[action='/language'] button").click()
    expect(page.locator("h1")).to_have_text("Arbeitsliste")
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.locator("footer.machine-made").inner_text() == "Maschinelle Übersetzung, nicht geprüft."


def test_an_error_of_the_api_is_in_english_whatever_the_language(foreign_desk: RunningDesk) -> None:
    with foreign_desk.client("vera") as vera:
        vera.http.cookies.set(LANGUAGE_COOKIE, "de")
        answer = vera.http.post("/api/slides/1/lease", json={"take_over": False})
    assert answer.json()["error"]["text"] == "This needs the role reader."
    assert PASSWORD not in answer.text
