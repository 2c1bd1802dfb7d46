"""The page of a slide in a real browser: labelling, undoing, sending, signing, and what other people do meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.review.desk_material import now
from tests.review.front_end import Visit, current, drag, gallery, saved, section_of
from tests.review.front_end_server import PASSWORD, FrontEndDesk

pytestmark = pytest.mark.slow
WAITING = "Object.keys(localStorage).filter(key => key.includes(':labels:')).length"


def test_a_key_labels_the_cell_and_undo_takes_it_back(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 60)
    page.keyboard.press("n")
    first = current(page)
    page.keyboard.press("5")
    expect(page.locator(f"section[data-line=monocyte] #cell-{first}")).to_be_attached()
    assert current(page) != first, "the focus goes to the next cell of the section"
    assert section_of(page, current(page)) == section_of(page, first) or "BL" in section_of(page, current(page))
    saved(page)
    assert desk.line(slide_id, first) == "monocyte"
    page.keyboard.press("u")
    saved(page)
    assert desk.labels(slide_id) == [(first, "amartin", "monocyte"), (first, "amartin", None)]
    assert current(page) == first
    expect(page.locator("[data-cell]")).to_have_count(60)


@pytest.mark.parametrize("way", ["n", "To look at", "Enter"])
def test_a_label_goes_to_the_cell_that_is_looked_at_not_to_one_clicked_before(
    desk: FrontEndDesk, visit: Visit, way: str
) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 60)
    clicked = page.locator("section[data-line=lymphocyte] [data-cell]").last
    clicked_id = int(clicked.get_attribute("data-cell") or 0)
    clicked.click()
    if way == "To look at":
        page.get_by_role("button", name="To look at").click()
    elif way == "n":
        page.keyboard.press("n")
    else:
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Home")
    looked_at = current(page)
    if way == "Enter":
        page.keyboard.press("Enter")
    assert looked_at != clicked_id
    page.keyboard.press("5")
    saved(page)
    assert desk.labels(slide_id) == [(looked_at, "amartin", "monocyte")]


def test_a_password_typed_while_something_is_missing_labels_nothing(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 60)
    page.keyboard.press("n")
    page.keyboard.press("s")
    page.wait_for_timeout(300)
    page.keyboard.type("seven lamps by the barn 1234")
    page.wait_for_timeout(300)
    assert desk.labels(slide_id) == []


def test_undo_gives_many_cells_their_labels_from_before(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, n_blasts=0)
    page = visit(f"/slides/{slide_id}")
    page.keyboard.press("n")
    before = current(page)
    page.keyboard.press("6")
    page.keyboard.press("n")
    page.keyboard.press("Control+a")
    n_selected = page.locator("[data-cell][aria-selected=true]").count()
    assert n_selected == 3
    page.keyboard.press("b")
    saved(page)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    saved(page)
    assert {label for _, _, label in desk.labels(slide_id)[4:]} == {None}
    assert desk.line(slide_id, before) == "unclassified"


def test_shift_and_space_select_and_all_are_labelled_at_once(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, n_unclassified=0, n_blasts=0, n_smudges=0)
    page = visit(f"/slides/{slide_id}")
    page.locator("[data-cell]").first.click()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("[aria-selected=true]")).to_have_count(3)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    expect(page.locator("[aria-selected=true]")).to_have_count(4)
    page.keyboard.press("4")
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["lymphocyte"] * 4
    assert len({cell for cell, _, _ in desk.labels(slide_id)}) == 4
    expect(page.locator("[aria-selected=true]")).to_have_count(0)


def test_an_arrow_after_a_click_moves_what_a_key_labels(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(30, n_unclassified=0, n_blasts=0, n_smudges=0)
    page = visit(f"/slides/{slide_id}")
    page.locator("[data-cell]").first.click()
    page.keyboard.press("ArrowRight")
    second = current(page)
    page.keyboard.press("5")
    saved(page)
    assert desk.labels(slide_id) == [(second, "amartin", "monocyte")]


def test_a_box_and_shift_clicks_select(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit(f"/slides/{desk.make_slide(60, n_unclassified=0, n_blasts=0, n_smudges=0)}")
    cells = page.locator("[data-cell]")
    first, last = cells.nth(0).bounding_box(), cells.nth(2).bounding_box()
    assert first and last
    page.mouse.move(first["x"] - 8, first["y"] - 4)
    page.mouse.down()
    page.mouse.move(first["x"] + 50, first["y"] + 50, steps=4)
    page.mouse.move(last["x"] + 20, last["y"] + 40, steps=4)
    page.mouse.up()
    expect(page.locator("[aria-selected=true]")).to_have_count(3)
    cells.nth(1).click()
    expect(page.locator("[aria-selected=true]")).to_have_count(1)
    cells.nth(4).click(modifiers=["Shift"])
    expect(page.locator("[aria-selected=true]")).to_have_count(4)
    cells.nth(4).click(modifiers=["Control"])
    expect(page.locator("[aria-selected=true]")).to_have_count(3)


def test_cells_are_dragged_onto_a_section_and_onto_a_line(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, n_blasts=0, n_smudges=0, n_unclassified=2)
    page = visit(f"/slides/{slide_id}")
    cells = page.locator("section:has(#of-unclassified) [data-cell]")
    first = int(cells.nth(0).get_attribute("data-cell") or 0)
    drag(page, cells.nth(0), page.locator("section[data-line=neutrophil] header"))
    expect(page.locator(f"section[data-line=neutrophil] #cell-{first}")).to_be_attached()
    saved(page)
    assert desk.labels(slide_id) == [(first, "amartin", "neutrophil")]
    drag(page, cells.nth(0), page.locator("tr[data-line=eosinophil]"))
    expect(cells).to_have_count(0)
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["neutrophil", "eosinophil"]


def test_the_mouse_alone_labels_through_the_menu(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    page.locator("[data-cell]").nth(1).click(button="right")
    page.get_by_role("menuitem", name="PC plasma cell").click()
    page.locator("[data-cell]").nth(0).click()
    page.get_by_role("button", name="Label as").click()
    page.get_by_role("menuitem", name="BL blast").click()
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["PC", "BL"]
    page.get_by_role("button", name="Undo").click()
    saved(page)
    assert desk.labels(slide_id)[-1][2] is None


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


def test_n_goes_through_what_needs_a_person_in_both_directions(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit(f"/slides/{desk.make_slide(60)}")
    gallery(page, 60)
    visited = []
    for _ in range(9):
        page.keyboard.press("n")
        visited.append(current(page))
    assert len(set(visited)) == 8
    assert visited[8] == visited[0]
    page.keyboard.press("Shift+N")
    assert current(page) == visited[7]


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


def test_a_session_that_ends_asks_for_the_password_and_loses_nothing(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 60)
    desk.end_session()
    page.keyboard.press("n")
    page.keyboard.press("5")
    dialog = page.get_by_role("dialog", name="Log in again")
    dialog.get_by_label("Your password").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The password is wrong.")
    dialog.get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["monocyte"]


def test_logging_in_in_another_tab_is_enough_if_it_is_the_same_person(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    gallery(page, 60)
    desk.end_session()
    page.keyboard.press("n")
    page.keyboard.press("5")
    dialog = page.get_by_role("dialog", name="Log in again")
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


@pytest.mark.parametrize("n_cells", [0, 1, 2000])
def test_any_number_of_cells_is_shown_and_labelled(n_cells: int, desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(n_cells, n_blasts=0, n_smudges=0, n_unclassified=0)
    page = visit(f"/slides/{slide_id}")
    gallery(page, n_cells)
    for key in ("n", "ArrowRight", "Control+a", "Escape", "Shift+End", "u", " "):
        page.keyboard.press(key)
    page.keyboard.press("5")
    saved(page)
    if n_cells:
        assert {label for _, _, label in desk.labels(slide_id)} == {"monocyte"}
    else:
        expect(page.get_by_text("no cell that could be used")).to_be_visible()


HOSTILE = (
    "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>\u202e{{7*7}}"
    + "x" * 300
)


def test_hostile_texts_are_shown_and_neither_run_nor_break_the_layout(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(30, barcode=HOSTILE)
    slide = desk.slides[slide_id]
    slide.facts |= {"order_id": HOSTILE, "age": HOSTILE}
    for cell in slide.cells:
        cell |= {"file_name": HOSTILE, "analyser_code": HOSTILE}
    cell_id = slide.cells[0]["cell_id"]
    desk.label_as(HOSTILE, slide_id, cell_id, "BL")
    desk.label_as("bmeyer", slide_id, cell_id, "VLY")
    desk.comment_as(HOSTILE, slide_id, HOSTILE)
    desk.comment_as(HOSTILE, slide_id, HOSTILE, cell_id)
    slide.named.append({"name": "x", "text": HOSTILE, "withholds": True})
    page = visit(f"/slides/{slide_id}")
    gallery(page, 30)
    page.locator(f"#cell-{cell_id}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("\\u202e")
    assert "run" not in page.title().split("<")[0]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth")
    assert page.locator("img[src=x]").count() == 0
    page.keyboard.press("Escape")
    panel = page.locator("#panel")
    expect(panel).to_contain_text("{{7*7}}")
    assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")


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


def test_the_large_view_zooms_goes_on_and_labels(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    page.locator("[data-cell]").first.dblclick()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".bars li")).to_have_count(8)
    expect(dialog.locator(".scale-bar")).to_contain_text("µm")
    for _ in range(6):
        page.keyboard.press("+")
    expect(dialog.locator("output")).to_have_text("8×")
    page.keyboard.press("-")
    expect(dialog.locator("output")).to_have_text("6×")
    title = dialog.locator("h2").inner_text()
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("h2")).not_to_have_text(title)
    page.keyboard.press("6")
    dialog.get_by_label("Comment on the cell").fill("5 band? BL?")
    dialog.get_by_role("button", name="Add comment").click()
    expect(dialog.locator(".comments")).to_contain_text("5 band? BL?")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)] == ["ig"]
    assert current(page)


def test_a_long_press_and_taps_select_on_a_touch_screen(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}", viewport={"width": 820, "height": 1180}, has_touch=True)
    cells = page.locator("[data-cell]")
    box = cells.nth(0).bounding_box()
    assert box
    touch = page.context.new_cdp_session(page)
    point = {"x": box["x"] + 40, "y": box["y"] + 40}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    page.wait_for_timeout(700)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("[aria-selected=true]")).to_have_count(1)
    cells.nth(1).tap()
    expect(page.locator("[aria-selected=true]")).to_have_count(2)
    page.get_by_role("button", name="Label as").tap()
    page.get_by_role("menuitem", name="Lymphocyte", exact=False).first.tap()
    saved(page)
    assert len(desk.labels(slide_id)) == 2
    page.get_by_role("button", name="Differential").tap()
    expect(page.get_by_role("heading", name="Differential")).to_be_visible()
    page.get_by_role("button", name="Back to the cells").tap()
    expect(page.get_by_role("heading", name="Differential")).to_be_hidden()


def test_keys_of_one_character_can_be_switched_off(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60)
    page = visit(f"/slides/{slide_id}")
    page.keyboard.press("?")
    page.get_by_role("checkbox", name="Keys of one character").uncheck()
    page.keyboard.press("Escape")
    page.locator("[data-cell]").first.click()
    page.keyboard.press("5")
    page.keyboard.press("n")
    page.wait_for_timeout(300)
    assert desk.labels(slide_id) == []


def test_a_page_whose_modules_are_not_fetched_says_so(desk: FrontEndDesk, visit: Visit) -> None:
    page = visit(f"/slides/{desk.make_slide(20)}")
    expect(page.locator("#not-loaded")).to_be_hidden()
    page.route("**/gallery.js", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("A part of this page could not be fetched.")).to_be_visible()


EASY: dict[str, Any] = {"n_blasts": 0, "n_smudges": 0, "n_unclassified": 0}


def test_undo_in_the_large_view_selects_nothing_behind_it(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, **EASY)
    page = visit(f"/slides/{slide_id}")
    page.locator("section[data-line=monocyte] [data-cell]").first.click()
    page.keyboard.press("Control+a")
    page.keyboard.press("6")
    saved(page)
    n_labelled = len(desk.labels(slide_id))
    assert n_labelled > 1
    page.locator("[data-cell]").first.dblclick()
    page.keyboard.press("u")
    saved(page)
    assert page.locator("[aria-selected=true]").count() == 0
    page.keyboard.press("3")
    saved(page)
    assert [label for _, _, label in desk.labels(slide_id)[2 * n_labelled :]] == ["basophil"]


def test_a_key_in_the_large_view_labels_its_cell_whatever_is_selected(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(60, **EASY)
    page = visit(f"/slides/{slide_id}")
    page.locator("[data-cell]").first.dblclick()
    expect(page.get_by_role("dialog")).to_be_visible()
    click = "cell => cell.dispatchEvent(new MouseEvent('click', {bubbles: true, ctrlKey: true}))"
    for at in (3, 4):
        page.locator("[data-cell]").nth(at).evaluate(click)
    assert page.locator("[aria-selected=true]").count() > 1
    page.keyboard.press("3")
    saved(page)
    assert len(desk.labels(slide_id)) == 1


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


def test_a_key_goes_to_no_cell_that_is_out_of_sight(desk: FrontEndDesk, visit: Visit) -> None:
    slide_id = desk.make_slide(500)
    page = visit(f"/slides/{slide_id}")
    page.keyboard.press("n")
    cell = current(page)
    for is_focused in (True, False):
        if not is_focused:
            page.evaluate("document.activeElement.blur()")
        page.mouse.move(400, 400)
        page.mouse.wheel(0, 3000)
        expect(page.locator(f"#cell-{cell}")).not_to_be_in_viewport()
        page.wait_for_timeout(300)
        page.keyboard.press("5")
        expect(page.locator("[data-spoken]")).to_contain_text("out of sight")
        expect(page.locator(f"#cell-{cell}")).to_be_in_viewport()
        expect(page.locator(f"#cell-{cell}")).to_be_focused()
    assert desk.labels(slide_id) == []
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
