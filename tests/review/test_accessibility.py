"""Every page of the front end: no violation that axe finds, nothing beside the window, targets for fingers."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from itertools import combinations
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.review.front_end import Visit
from tests.review.front_end_server import FrontEndDesk
from tests.review.vendor import axe_source

pytestmark = pytest.mark.slow
FETCHED = Path(gettempdir()) / "bloodcell-axe"
MEANINGFUL = ("red", "amber-line", "teal", "stain")
SWATCHES = """names => document.body.replaceChildren(...names.map((name, at) => {
    const swatch = document.createElement('div');
    swatch.style.cssText = `position: fixed; left: ${at * 40}px; width: 40px; height: 40px; background: var(--${name})`;
    return swatch;
}))"""
GALLERY_TREE = """
- main:
  - heading "Slide S-001" [level=1]
  - group "Cells":
    - button "Label as …"
    - button /To look at. 9/
  - heading "BL blast 2" [level=2]
  - listbox "BL blast 2":
    - option /Needs a person. check. blast; Counts as BL blast; model. Neutrophil \\d+ %.*; analyser. BL/
  - heading "Contested 1" [level=2]
  - listbox "Contested 1":
    - option /Needs a person. contested; .*; bmeyer labelled it BL blast; cdupont labelled it VLY variant lymphocyte/
  - listbox "Unclassified 4":
    - option /not classified. unlike the training cells; model. Monocyte \\d+ %/
  - complementary "Result of the slide":
    - region /Differential leucocytes. 49/:
      - table:
        - rowgroup:
          - row /Neutrophils 29 59.2 44.2–73.0 54.7–62.3 40.0–75.0/
          - row /Eosinophils △ possibly high 3 6.1/
    - region "Sign s":
      - list:
        - listitem:
          - link /Unclassified cells without a label. 4/
"""
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that finds violations."""
    return axe_source(FETCHED)


def _as_opened(page: Page) -> None:
    expect(page.locator("#desk > *").first).to_be_visible()


def _large_view(page: Page) -> None:
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    expect(page.locator("dialog .bars li")).to_have_count(8)


def _menu(page: Page) -> None:
    page.get_by_role("button", name="Label as").click()


def _help(page: Page) -> None:
    page.keyboard.press("?")


def _selection(page: Page) -> None:
    page.keyboard.press("n")
    page.keyboard.press("Control+a")


def _person(page: Page) -> None:
    page.locator("details.menu-of-person summary").click()


def _chosen(page: Page) -> None:
    expect(page.locator(".specimen[aria-busy], .picture-view [aria-busy]")).to_have_attribute("aria-busy", "false")
    page.keyboard.press("b")


STATES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "slide": ("/slides/1", _as_opened),
    "large view": ("/slides/1", _large_view),
    "menu": ("/slides/1", _menu),
    "help": ("/slides/1", _help),
    "selection": ("/slides/1", _selection),
    "menu of the person": ("/slides/1", _person),
    "slide to sign": ("/slides/2", _as_opened),
    "slide without cells": ("/slides/3", _as_opened),
    "slide of somebody else": ("/slides/4", _as_opened),
    "blind reading": ("/blind", _chosen),
    "adjudication": ("/adjudicate", _chosen),
}


def _prepare(desk: FrontEndDesk) -> None:
    first = desk.make_slide(60)
    desk.comment_as("bmeyer", first, "See the second smear.")
    desk.label_as("bmeyer", first, 9, "BL")
    desk.label_as("cdupont", first, 9, "VLY")
    desk.make_slide(40, n_unclassified=0, n_blasts=0, n_smudges=0)
    desk.make_slide(0)
    desk.hold_as("bmeyer", desk.make_slide(40))


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation(state: str, axe: str, desk: FrontEndDesk, visit: Visit) -> None:
    _prepare(desk)
    path, act = STATES[state]
    page = visit(path, reduced_motion="reduce", bypass_csp=True)
    act(page)
    page.add_script_tag(content=axe)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found = page.evaluate("rules => axe.run(document, rules)", RULES)
        assert [
            (theme, one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"])
            for one in found["violations"]
        ] == []


@pytest.mark.parametrize("state", STATES)
def test_no_page_scrolls_sideways(state: str, desk: FrontEndDesk, visit: Visit) -> None:
    _prepare(desk)
    path, act = STATES[state]
    page = visit(path)
    act(page)
    for width, height in ((1280, 800), (820, 1180), (640, 400), (320, 640)):  # the last two are 200 % and 400 %
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(50)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_targets_are_44_px_on_a_touch_screen(desk: FrontEndDesk, visit: Visit) -> None:
    _prepare(desk)
    page = visit("/slides/2", viewport={"width": 820, "height": 1180}, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Differential").tap()
    small = page.evaluate(
        """[...document.querySelectorAll('button, select, summary, .choice, nav a, [data-cell]')]
        .filter(element => element.checkVisibility({visibilityProperty: true}))
        .filter(element => element.getBoundingClientRect().height < 44)
        .map(element => element.outerHTML.slice(0, 120))"""
    )
    assert small == []


def _lab(rgb: tuple[int, ...]) -> np.ndarray:
    """Returns L*, a* and b* (CIE 1976, D65) of an sRGB colour."""
    linear = np.array(
        [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in np.array(rgb) / 255]
    )
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(np.maximum(xyz / (0.9505, 1, 1.089), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("deficiency", ["none", "protanopia", "deuteranopia", "tritanopia"])
def test_colours_with_a_meaning_are_told_apart(theme: str, deficiency: str, desk: FrontEndDesk, visit: Visit) -> None:
    """As Chromium shows them to somebody with that colour vision: CIELAB distance of at least 18 between any two."""
    page = visit("/blind", color_scheme=theme)
    page.evaluate(SWATCHES, MEANINGFUL)
    page.context.new_cdp_session(page).send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
    seen = Image.open(BytesIO(page.screenshot())).convert("RGB")
    colours = {name: _lab(seen.getpixel((at * 40 + 20, 20))) for at, name in enumerate(MEANINGFUL)}  # type: ignore[arg-type]
    apart = {pair: float(np.linalg.norm(colours[pair[0]] - colours[pair[1]])) for pair in combinations(colours, 2)}
    assert min(apart.values()) >= 18, apart


def test_a_screen_reader_meets_classes_counts_and_cells(desk: FrontEndDesk, visit: Visit) -> None:
    _prepare(desk)
    page = visit("/slides/1")
    expect(page.locator("main")).to_match_aria_snapshot(GALLERY_TREE)


def test_a_theme_that_was_chosen_stays(desk: FrontEndDesk, visit: Visit) -> None:
    _prepare(desk)
    page = visit("/slides/3", color_scheme="light")
    page.locator("details.menu-of-person summary").click()
    page.get_by_label("dark").check()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    assert page.evaluate("document.querySelectorAll('[style]:not([data-cell], .picture, .chunk)').length") == 0
