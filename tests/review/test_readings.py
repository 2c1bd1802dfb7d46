"""Blind reading and adjudication in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from tests.review.front_end import Visit, saved
from tests.review.front_end_server import FrontEndDesk

pytestmark = pytest.mark.slow


def shown(page: Page, n_read: int) -> None:
    """Waits until the picture of the cell after so many is shown."""
    expect(page.get_by_text(f"Read: {n_read} of 20")).to_be_visible()
    expect(page.locator(".specimen")).to_have_attribute("aria-busy", "false")


def dispute_shown(page: Page) -> None:
    """Waits until the picture of the contested cell is shown."""
    expect(page.locator(".picture-view .frame")).to_have_attribute("aria-busy", "false")


def until(page: Page, condition: str) -> None:
    """Waits until a script says true (the policy of the pages forbids what Playwright's own wait evaluates)."""
    for _ in range(150):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(condition)


def test_only_the_last_choice_can_be_taken_back_and_is_sent_with_the_next(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/blind")
    shown(page, 0)
    page.keyboard.press("1")
    expect(page.get_by_text("Last choice: Neutrophil.")).to_be_visible()
    assert desk.blind == []
    page.keyboard.press("u")
    shown(page, 0)
    page.keyboard.press("2")
    shown(page, 1)
    page.get_by_role("button", name="Lymphocyte").first.click()
    saved(page)
    assert [(one["cell_id"], one["label"]) for one in desk.blind] == [(0, "eosinophil")]
    page.reload()
    expect(page.get_by_text("Last choice: Lymphocyte.")).to_be_visible()
    page.keyboard.press("u")
    shown(page, 1)
    page.keyboard.press("5")
    page.get_by_role("button", name="Finish").click()
    saved(page)
    expect(page.get_by_text("You can go on later.")).to_be_visible()
    assert [(one["cell_id"], one["label"]) for one in desk.blind] == [(0, "eosinophil"), (1, "monocyte")]


def test_a_reading_ends_with_finish_and_says_so(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/blind")
    for at in range(20):
        shown(page, at)
        page.keyboard.press("4")
    expect(page.get_by_text("All cells are read.")).to_be_visible()
    page.get_by_role("button", name="Finish").click()
    expect(page.get_by_text("These labels judge the models.")).to_be_visible()
    saved(page)
    assert len(desk.blind) == 20
    page.reload()
    expect(page.get_by_text("There is no cell to read now.")).to_be_visible()


def test_a_key_before_the_picture_is_shown_labels_nothing(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/blind")
    waiting: list[Route] = []
    page.route("**/cells/*/image", lambda route: waiting.append(route))
    page.reload(wait_until="commit")
    expect(page.locator(".specimen")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("4")
    page.get_by_role("button", name="Monocyte").click()
    expect(page.locator("[data-spoken]")).to_have_text("The picture is not shown yet.")
    for route in waiting:
        route.continue_()
    shown(page, 0)
    page.unroute("**/cells/*/image")
    page.keyboard.press("5")
    expect(page.get_by_text("Last choice: Monocyte.")).to_be_visible()
    page.get_by_role("button", name="Finish").click()
    saved(page)
    assert [(one["cell_id"], one["label"]) for one in desk.blind] == [(0, "monocyte")]


def test_a_cell_without_a_picture_is_left_out_without_a_label(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/blind")
    page.route("**/cells/0/image", lambda route: route.fulfill(status=404))
    page.reload()
    expect(page.get_by_text("The picture is missing or altered in the store.")).to_be_visible()
    page.keyboard.press("4")
    expect(page.locator("[data-spoken]")).to_have_text("The picture is missing: the cell gets no label.")
    page.get_by_role("button", name="Next cell, without a label").click()
    shown(page, 0)
    page.keyboard.press("5")
    page.get_by_role("button", name="Finish").click()
    saved(page)
    assert [(one["cell_id"], one["label"]) for one in desk.blind] == [(1, "monocyte")]


def test_a_picture_that_comes_late_is_not_taken_for_the_cell_on_the_page(desk: FrontEndDesk, visit: Visit) -> None:
    """The next cell's picture arrives after the reader went back: the cell that is shown can still be labelled."""
    page = visit("/blind")
    shown(page, 0)
    late: list[Route] = []
    page.route("**/cells/1/image", lambda route: late.append(route))
    page.reload()
    shown(page, 0)
    page.keyboard.press("4")
    expect(page.locator(".specimen")).to_have_attribute("aria-busy", "true")
    page.evaluate("document.querySelector('.specimen img').addEventListener('load', () => (window.isLate = true))")
    page.keyboard.press("u")
    shown(page, 0)
    for route in late:
        route.continue_()
    until(page, "window.isLate === true")
    shown(page, 0)
    page.keyboard.press("5")
    expect(page.get_by_text("Last choice: Monocyte.")).to_be_visible()


def test_nothing_tells_what_the_cell_was_called(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/blind")
    shown = page.locator("#blind").text_content() or ""
    assert not {"called_class", "file_name", "analyser_code", "choices"} & set(shown.replace('"', " ").split())


def test_a_dispute_is_decided_with_a_note(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/adjudicate")
    expect(page.get_by_text("Contested cells left: 3")).to_be_visible()
    expect(page.get_by_text("fine chromatin, nucleolus")).to_be_visible()
    dispute_shown(page)
    expect(page.get_by_label("Note (optional)")).to_have_attribute("maxlength", "1000")
    page.keyboard.press("b")
    page.get_by_label("Note (optional)").fill("Auer rod")
    page.get_by_role("button", name="Store the decision").click()
    expect(page.get_by_text("Contested cells left: 2")).to_be_visible()
    dispute_shown(page)
    page.keyboard.press("v")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Contested cells left: 1")).to_be_visible()
    saved(page)
    assert [(one["cell_id"], one["label"], one["note"], one["seen"]) for one in desk.adjudications] == [
        (0, "BL", "Auer rod", 50),
        (1, "VLY", None, 51),
    ]


def test_a_contested_cell_without_a_picture_is_not_decided(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/adjudicate")
    page.route("**/image", lambda route: route.fulfill(status=404))
    page.reload()
    expect(page.get_by_text("The picture is missing or altered in the store.")).to_be_visible()
    page.keyboard.press("b")
    expect(page.locator("[data-spoken]")).to_have_text("The picture is missing: the cell gets no label.")
    expect(page.get_by_role("button", name="Store the decision")).to_be_disabled()


def test_a_decision_waits_while_the_server_is_away(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit("/adjudicate")
    dispute_shown(page)
    desk.is_away = True
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    expect(page.locator(".banner").filter(has_text="Changes that wait to be saved: 1")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Contested cells left: 2")).to_be_visible()
    desk.is_away = False
    saved(page)
    assert [one["label"] for one in desk.adjudications] == ["BL"]
