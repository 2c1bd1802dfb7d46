"""The page of a slide in a real browser: what is sent, what waits, and what other people do meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from tests.review.front_end import Visit, current, gallery, saved, section_of
from tests.review.front_end_server import PASSWORD, FrontEndDesk

pytestmark = pytest.mark.slow
WAITING = "Object.keys(localStorage).filter(key => key.includes(':labels:')).length"
EASY: dict[str, Any] = {"n_blasts": 0, "n_smudges": 0, "n_unclassified": 0}


def test_nothing_is_lost_and_nothing_stored_twice_when_the_network_goes(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(100, n_blasts=0, n_smudges=0)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 100)
    page.locator("section[data-line=neutrophil] [data-cell]").first.click()
    keys = [*"4567" * 5]
    for at, key in enumerate(keys):
        if at == 7:
            page.context.set_offline(True)
        if at == 12:
            expect(page.locator(".banner").filter(has_text="Changes that wait to be saved")).to_be_visible()
        page.keyboard.press(key)
    assert page.evaluate(WAITING) >= 13
    page.context.set_offline(False)
    saved(page)
    stored = desk.labels(slide_id)
    assert len(stored) == len({cell for cell, _, _ in stored}) == 20
    assert [label for _, _, label in stored] == [
        {"4": "lymphocyte", "5": "monocyte", "6": "ig", "7": "erythroblast"}[key] for key in keys
    ]
    assert page.evaluate(WAITING) == 0


def test_an_answer_that_is_lost_on_its_way_stores_nothing_twice(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    lost: list[APIResponse] = []

    def lose(route: Route) -> None:
        if not lost:
            lost.append(route.fetch())
            route.abort()
        else:
            route.continue_()

    page.route("**/labels", lose)
    page.keyboard.press("n")
    page.keyboard.press("1")
    expect(page.locator(".banner").filter(has_text="Changes that wait to be saved")).to_be_visible()
    saved(page)
    assert len(desk.labels(slide_id)) == 1


def test_what_waits_is_sent_after_a_reload(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    desk.is_away = True
    page.keyboard.press("n")
    labelled = current(page)
    page.keyboard.press("5")
    expect(page.locator(".banner").filter(has_text="The server does not answer")).to_be_visible()
    page.reload()
    expect(page.locator(f"section[data-line=monocyte] #cell-{labelled}.saving")).to_be_attached()
    assert desk.labels(slide_id) == []
    desk.is_away = False
    page.get_by_role("button", name="Try now").click()
    saved(page)
    assert desk.labels(slide_id) == [(labelled, "amartin", "monocyte")]


def test_a_change_that_the_server_cannot_take_is_told_and_does_not_hold_up_the_others(
    desk: FrontEndDesk, visit: Visit
) -> None:
    slide_id = desk.make_slide(60, n_blasts=0, n_smudges=0, n_unclassified=0)
    page = visit(f"/slides/{slide_id}")
    page.locator("section[data-line=lymphocyte] [data-cell]").first.click()
    bad = current(page)
    refusal = {"error": {"code": "invalid", "text": "No such label.", "next": None}}

    def refuse(route: Route) -> None:
        if any(change["cell_id"] == bad for change in json.loads(route.request.post_data or "")["changes"]):
            route.fulfill(status=422, json=refusal)
        else:
            route.continue_()

    page.route("**/labels", refuse)
    page.keyboard.press("Control+a")
    n_cells = page.locator("[aria-selected=true]").count()
    page.keyboard.press("5")
    expect(page.locator(".toasts .notice")).to_contain_text("Not stored: No such label.")
    saved(page)
    assert len(desk.labels(slide_id)) == n_cells - 1
    assert section_of(page, bad) == "Lymphocyte"


def test_what_one_person_left_is_not_sent_in_the_name_of_another(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    desk.is_away = True
    page.keyboard.press("n")
    page.keyboard.press("5")
    desk.person = "bmeyer"
    desk.hold_as(None, slide_id)
    desk.is_away = False
    page.reload()
    gallery(page, 60)
    saved(page)
    assert desk.labels(slide_id) == []
    desk.person = "amartin"
    desk.hold_as("amartin", slide_id)
    page.reload()
    saved(page)
    assert [by for _, by, _ in desk.labels(slide_id)] == ["amartin"]


def test_two_tabs_send_each_change_once(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    desk.is_away = True
    for _ in range(4):
        page.keyboard.press("n")
        page.keyboard.press("5")
    other = visit(f"/slides/{slide_id}", context=page.context)
    expect(other.locator(".cell.saving")).to_have_count(4)
    desk.is_away, desk.delay_s = False, 0.2
    for tab in (page, other):
        tab.evaluate("window.dispatchEvent(new Event('online'))")
    saved(page)
    saved(other)
    assert len(desk.labels(slide_id)) == 4
    expect(other.locator(".cell.saving")).to_have_count(0)


def labelled_after_the_session(desk: FrontEndDesk, visit: Visit) -> tuple[int, Page, Locator]:
    """Labels a cell after the session has ended; returns the slide, its page, and the dialog of the log-in."""
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 60)
    desk.end_session()
    page.keyboard.press("n")
    page.keyboard.press("5")
    return slide_id, page, page.get_by_role("dialog", name="Log in again")


def test_a_session_that_ends_asks_for_the_password_and_loses_nothing(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id, page, dialog = labelled_after_the_session(desk, visit)
    dialog.get_by_label("Your password").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The password is wrong.")
    dialog.get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["monocyte"]


def test_logging_in_in_another_tab_is_enough_if_it_is_the_same_person(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id, page, dialog = labelled_after_the_session(desk, visit)
    dialog.get_by_role("button", name="go on here").click()
    expect(dialog.get_by_role("alert")).to_have_text("You are not logged in yet.")
    desk.is_logged_in, desk.person = True, "bmeyer"
    dialog.get_by_role("button", name="go on here").click()
    expect(dialog.get_by_role("alert")).to_have_text("bmeyer is logged in now. Log in as amartin.")
    desk.person = "amartin"
    dialog.get_by_role("button", name="go on here").click()
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["monocyte"]


def test_a_conflict_is_told_with_what_the_other_person_said(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    page.keyboard.press("n")
    cell = current(page)
    desk.label_as("bmeyer", slide_id, cell, "BL")
    page.keyboard.press("5")
    told = page.locator(".toasts .notice")
    expect(told).to_contain_text("bmeyer has labelled this cell BL blast since")
    saved(page)
    assert desk.labels(slide_id) == [(cell, "bmeyer", "BL")]
    assert section_of(page, cell) == "BL blast"
    told.get_by_role("button", name="Show the cell").click()
    assert current(page) == cell
    page.keyboard.press("5")
    saved(page)
    assert desk.line(slide_id, cell) == "contested"
    assert section_of(page, cell) == "Contested"


def test_two_changes_of_one_cell_are_no_conflict_with_oneself(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    desk.delay_s = 0.3
    page = visit(f"/slides/{slide_id}")
    page.keyboard.press("n")
    cell = current(page)
    for key in ("5", "u", "5", "u"):
        page.keyboard.press(key)
    saved(page)
    assert desk.labels(slide_id) == [(cell, "amartin", label) for label in ("monocyte", None, "monocyte", None)]


def test_a_slide_that_somebody_else_has_is_read_only_until_it_is_taken_over(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    desk.hold_as("bmeyer", slide_id)
    page = visit(f"/slides/{slide_id}")
    expect(page.get_by_text("bmeyer has this slide")).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.press("5")
    expect(page.locator(".toasts .notice")).to_contain_text("cannot change this slide")
    page.get_by_role("button", name="Take over").click()
    expect(page.get_by_text("bmeyer has this slide")).to_have_count(0)
    page.keyboard.press("n")
    page.keyboard.press("5")
    saved(page)
    assert len(desk.labels(slide_id)) == 1


def test_changes_wait_while_somebody_else_has_taken_the_slide(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    page.keyboard.press("n")
    page.wait_for_timeout(2300)  # after the lease is asked for the second time
    desk.hold_as("bmeyer", slide_id)
    page.keyboard.press("5")
    expect(page.locator(".banner").filter(has_text="Changes that wait to be saved: 1")).to_be_visible()
    expect(page.get_by_text("bmeyer has this slide")).to_be_visible()
    page.get_by_role("button", name="Take over").click()
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["monocyte"]


def test_a_label_is_ones_own_in_whatever_letters_the_server_knows_the_name(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, **EASY)
    cell = desk.slides[slide_id].cells[0]["cell_id"]
    desk.label_as("AMartin", slide_id, cell, "monocyte")
    page = visit(f"/slides/{slide_id}")
    desk.is_away = True
    page.locator(f"#cell-{cell}").click()
    page.keyboard.press("6")
    expect(page.locator(f"section[data-line=ig] #cell-{cell}")).to_be_attached()
    assert page.locator("section[data-line=contested]").count() == 0
    page.keyboard.press("u")
    expect(page.locator(f"section[data-line=monocyte] #cell-{cell}")).to_be_attached()
    desk.is_away = False
    page.evaluate("window.dispatchEvent(new Event('online'))")
    saved(page)


def test_a_key_before_the_first_answer_about_the_slide_labels(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    desk.is_taken_with_page = False
    page = visit(f"/slides/{slide_id}")
    desk.hold_as(None, slide_id)
    waiting: list[Route] = []
    page.route("**/lease", lambda route: waiting.append(route))
    page.reload()
    gallery(page, 60)
    page.keyboard.press("n")
    page.keyboard.press("5")
    saved(page)
    assert len(desk.labels(slide_id)) == 1
    expect(page.locator(".toasts .notice")).to_have_count(0)
    expect(page.locator(".banner")).to_have_count(0)
    for route in waiting:
        route.continue_()
