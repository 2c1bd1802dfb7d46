"""The page of a slide in a real browser: what is missing, the signature, comments, and what is signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.review.desk_material import now
from tests.review.front_end import Visit, current, gallery, saved, section_of
from tests.review.front_end_server import PASSWORD, FrontEndDesk

pytestmark = pytest.mark.slow
EASY: dict[str, Any] = {"n_blasts": 0, "n_smudges": 0, "n_unclassified": 0}


def test_a_slide_is_reviewed_and_signed_with_few_key_strokes(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(200)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 200)
    strokes = 0

    def press(key: str) -> None:
        nonlocal strokes
        strokes += 1
        page.keyboard.press(key)

    for _ in range(8):  # blasts, unclassified, smudges
        press("n")
        press("5")
    for _ in range(4):
        press("ArrowRight")
        press("6")
    saved(page)
    expect(page.get_by_text("Before this slide can be signed")).to_have_count(0)
    press("s")
    assert page.locator("#signing input[type=checkbox]:checked, #signing input[type=radio]:checked").count() == 0
    expect(page.locator("input[type=checkbox]:focus")).to_be_visible()
    for key in (" ", "Tab", " ", "Tab", " ", "Tab"):
        press(key)
    page.keyboard.type(PASSWORD)
    press("Enter")
    expect(page.locator("#signing")).to_contain_text("Signed: version 2, final.")
    assert strokes < 60
    assert desk.slides[slide_id].versions[-1]["signed_by"] == "amartin"
    expect(page.locator("#panel .result")).to_contain_text("final")


def test_the_toolbar_and_the_differential_stay_in_sight(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit(f"/slides/{desk.make_slide(200)}")
    page.locator("[data-cell]").last.focus()
    expect(page.get_by_role("button", name="Label as")).to_be_in_viewport()
    expect(page.get_by_role("heading", name="Differential")).to_be_in_viewport()
    cell, bar = page.locator("[data-cell]").last.bounding_box(), page.locator(".toolbar").bounding_box()
    assert cell and bar
    assert bar["y"] + bar["height"] <= cell["y"]


def test_what_is_missing_for_signing_is_listed_and_leads_to_the_cell(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    page.keyboard.press("s")
    expect(page.locator("#signing a:focus")).to_be_visible()
    page.get_by_role("link", name="Cells with a blast code").click()
    assert section_of(page, current(page)) == "BL blast"
    assert page.get_by_role("button", name="Sign the slide").count() == 0


def fill_signature(page: Page) -> None:
    """Ticks and chooses what the form of the signature asks for."""
    sign = page.locator("#signing")
    for box in sign.get_by_role("checkbox").all():
        box.check()
    sign.get_by_role("radio").first.check()
    sign.get_by_label("Your password").fill(PASSWORD)


def test_a_wrong_password_and_a_changed_slide_are_told_in_words(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, n_blasts=0, n_smudges=0, n_unclassified=0)
    page = visit(f"/slides/{slide_id}")
    sign = page.locator("#signing")
    for box in sign.get_by_role("checkbox").all():
        box.check()
    sign.get_by_role("radio").check()
    sign.get_by_label("Your password").fill("wrong")
    sign.get_by_role("button", name="Sign the slide").click()
    expect(sign.get_by_role("alert")).to_have_text("The password is wrong.")
    desk.label_as("bmeyer", slide_id, desk.slides[slide_id].cells[0]["cell_id"], "monocyte")
    sign.get_by_label("Your password").fill(PASSWORD)
    sign.get_by_role("button", name="Sign the slide").click()
    expect(sign.get_by_role("alert")).to_contain_text("has changed since you looked at it")
    expect(page.locator("section[data-line=monocyte] .labelled")).to_have_count(1)
    assert sign.locator("input:checked").count() == 0, "what was ticked was for what was shown before"
    fill_signature(page)
    sign.get_by_role("button", name="Sign the slide").click()
    expect(sign.get_by_text("Signed: version 2, final.")).to_be_visible()


def test_a_page_whose_modules_are_not_fetched_says_so(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit(f"/slides/{desk.make_slide(20)}")
    expect(page.locator("#not-loaded")).to_be_hidden()
    page.route("**/gallery.js", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("A part of this page could not be fetched.")).to_be_visible()


def test_withheld_numbers_of_a_newer_version_are_said_to_be_so(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, **EASY)
    slide = desk.slides[slide_id]
    slide.versions[-1] |= {"state": "final", "signed_by": "amartin"}
    slide.waiting = {"version": 2, "state": "withheld", "made_at": now(), "signed_by": None, "why": "late cells"}
    page = visit(f"/slides/{slide_id}")
    table = page.locator(".differential")
    expect(table).to_contain_text("Version 2, not signed")
    expect(table).to_contain_text("Withheld: not reportable")
    slide.waiting["state"] = "machine"
    page.locator("[data-cell]").first.click()
    page.keyboard.press("5")
    expect(table).not_to_contain_text("Withheld: not reportable")
    expect(table).to_contain_text("Version 2, not signed")


def test_a_slide_without_a_result_shows_its_cells_and_takes_labels(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    desk.slides[slide_id].versions.clear()
    page = visit(f"/slides/{slide_id}")
    gallery(page, 60)
    expect(page.locator(".differential")).to_contain_text("No result yet")
    expect(page.locator("#signing")).to_contain_text("The slide has no result yet.")
    page.keyboard.press("n")
    cell = current(page)
    page.keyboard.press("5")
    saved(page)
    assert desk.labels(slide_id) == [(cell, "amartin", "monocyte")]


def test_a_lost_answer_to_the_signature_leaves_it_open_whether_the_slide_is_signed(
    desk: FrontEndDesk, visit: Visit
) -> None:
    slide_id = desk.make_slide(60, **EASY)
    page = visit(f"/slides/{slide_id}")
    page.route("**/sign", lambda route: route.abort())
    fill_signature(page)
    sign = page.locator("#signing")
    sign.get_by_role("button", name="Sign the slide").click()
    expect(sign.get_by_role("alert")).to_contain_text("it is not known whether the slide was signed")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.unroute("**/sign")
    page.route("**/sign", lose)
    fill_signature(page)
    sign.get_by_role("button", name="Sign the slide").click()
    expect(sign).to_contain_text("Signed by amartin, version 2")
    assert sign.locator("form").count() == 0


def test_a_refusal_to_sign_is_told_in_the_words_of_the_server(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit(f"/slides/{desk.make_slide(60, **EASY)}")
    desk.refusal = "Two people have to read this slide."
    fill_signature(page)
    sign = page.locator("#signing")
    sign.get_by_role("button", name="Sign the slide").click()
    expect(sign.get_by_role("alert")).to_have_text("Two people have to read this slide.")


def test_a_signed_slide_says_who_signed_it_until_it_changes(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, **EASY)
    page = visit(f"/slides/{slide_id}")
    fill_signature(page)
    sign = page.locator("#signing")
    sign.get_by_role("button", name="Sign the slide").click()
    expect(sign).to_contain_text("Signed: version 2, final.")
    page.reload()
    expect(sign).to_contain_text("Signed by amartin, version 2")
    assert sign.get_by_text("Sign as").count() == 0
    page.locator("[data-cell]").first.click()
    page.keyboard.press("5")
    expect(sign.get_by_role("radio")).to_have_count(2)


def test_an_edited_comment_is_another_one_and_the_same_text_is_not(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit(f"/slides/{desk.make_slide(20)}")
    keys: list[str] = []

    def fail(route: Route) -> None:
        keys.append(json.loads(route.request.post_data or "")["key"])
        route.abort()

    page.route("**/comments", fail)
    form = page.locator(".comment-form")
    for text in ("Smear", "Smear", "Second smear"):
        form.get_by_label("Comment on the slide").fill(text)
        form.get_by_role("button", name="Add comment").click()
        expect(form.get_by_role("button", name="Add comment")).to_be_enabled()
        expect(form.get_by_role("alert")).to_be_visible()
    assert keys[0] == keys[1] != keys[2]
