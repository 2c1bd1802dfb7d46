"""The page of a slide in a real browser: selecting and labelling by key, mouse and touch."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.review.front_end import Visit, current, drag, gallery, saved, section_of
from tests.review.front_end_server import FrontEndDesk

pytestmark = pytest.mark.slow
HOSTILE = (
    "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>\u202e{{7*7}}"
    + "x" * 300
)
EASY: dict[str, Any] = {"n_blasts": 0, "n_smudges": 0, "n_unclassified": 0}


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
