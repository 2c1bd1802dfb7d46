"""Every page of the front end: no violation that axe finds, nothing beside the window, targets for fingers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

import pytest
from playwright.sync_api import Page, expect

from tests.review.front_end import Visit
from tests.review.front_end_server import FrontEndDesk
from tests.review.vendor import axe_source

pytestmark = pytest.mark.slow
FETCHED = Path(gettempdir()) / "bloodcell-axe"
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


def test_a_theme_that_was_chosen_stays(desk: FrontEndDesk, visit: Visit) -> None:
    _prepare(desk)
    page = visit("/slides/3", color_scheme="light")
    page.locator("details.menu-of-person summary").click()
    page.get_by_label("dark").check()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    assert page.evaluate("document.querySelectorAll('[style]:not([data-cell], .picture, .chunk)').length") == 0
