"""The training queue: which cells it offers, to whom, and that its labels are ordinary ones."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.review.training_queue import choose_cells, farthest_points
from tests.laboratory import NIGHT
from tests.review.desk import RunningDesk, Slide


def queue_of(desk: RunningDesk, name: str = "anna") -> list[dict[str, Any]]:
    with desk.client(name) as person:
        page = person.http.get(f"/training-queue?night={NIGHT}").raise_for_status().text
    block = re.search(r'id="queue">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    cells: list[dict[str, Any]] = json.loads(block[1])["cells"]
    return cells


def candidate(cell_id: int, by_margin: int, by_novelty: int, top: str, confidence: float) -> SimpleNamespace:
    rest = {f"p_{name}": (1 - confidence) / 7 for name in CELL_CLASSES}
    return SimpleNamespace(
        cell_id=cell_id, by_margin=by_margin, by_novelty=by_novelty, **{**rest, f"p_{top}": confidence}
    )


def test_farthest_points_begin_away_from_the_centres() -> None:
    points = np.array([[0.0], [1.0], [10.0], [11.0]])
    assert farthest_points(points, np.array([[0.0]]), 3) == [3, 2, 1] or farthest_points(
        points, np.array([[0.0]]), 2
    ) == [3, 1]
    assert farthest_points(points, np.empty((0, 1)), 2) == [0, 3]
    assert farthest_points(np.empty((0, 8)), np.empty((0, 8)), 5) == []


def test_uncertain_and_novel_cells_come_in_turn_and_differ() -> None:
    alike = [candidate(n, n, 100 - n, "neutrophil", 0.30) for n in (1, 2)]
    novel = [candidate(11, 50, 1, "ig", 0.99), candidate(12, 51, 2, "ig", 0.99), candidate(13, 52, 3, "basophil", 0.99)]
    chosen = choose_cells([*alike, *novel], 2)
    assert list(chosen.values()) == ["uncertain", "novel", "uncertain", "novel"]
    assert list(chosen)[::2] == [1, 2]
    # two ig alike are worth one label: the basophil is farther from the first
    assert {cell for cell, why in chosen.items() if why == "novel"} in ({11, 13}, {12, 13})


@pytest.fixture(scope="module")
def night(running_desk: RunningDesk) -> Slide:
    """A slide of sixty cells, of which the first are uncertain or novel, and one each is sampled, coded or held out."""
    desk = running_desk
    laboratory = desk.laboratory
    slide_id = laboratory.slide("T-1", patient_key="p-training")
    images = desk.images(60)
    cells = laboratory.cells(slide_id, [None] * 58 + ["BL", None], images=images)
    confidences = [0.51, 0.52, 0.53] + [0.95] * 57
    novelties = [1.0] * 3 + [11.0, 10.0, 9.0] + [1.0] * 54
    confidences[58] = confidences[59] = 0.505  # out of scope, and of the random sample: least certain of all
    laboratory.call(cells, ["neutrophil"] * 60, confidences=confidences, novelties=novelties)
    laboratory.count(slide_id)
    laboratory.sample([cells[59]])
    held = laboratory.slide("T-2", patient_key="p-judge")
    of_judge = laboratory.cells(held, [None], images=desk.images(1))
    laboratory.call(of_judge, ["neutrophil"], confidences=[0.501])
    laboratory.count(held)
    desk.rows(
        "INSERT INTO bloodcell.data_split (split_key, split, is_blind, run_id) "
        "SELECT 'p-judge', 'holdout', true, run_id FROM bloodcell.run LIMIT 1"
    )
    return Slide(slide_id, "T-1", {"neutrophil": cells})


def test_the_least_certain_and_the_most_novel_cells_are_offered(running_desk: RunningDesk, night: Slide) -> None:
    offered = queue_of(running_desk)
    uncertain = [each["cell_id"] for each in offered if each["why"] == "uncertain"]
    assert uncertain[:3] == night.all_cells[:3]
    assert (len(uncertain), len(offered)) == (20, 40)
    assert set(night.all_cells[3:6]) <= {each["cell_id"] for each in offered}


def test_cells_that_cannot_train_or_are_read_blind_are_not_offered(running_desk: RunningDesk, night: Slide) -> None:
    offered = {each["cell_id"] for each in queue_of(running_desk)}
    assert offered <= set(night.all_cells[:58])


def test_the_choice_stays_the_same_while_people_label(running_desk: RunningDesk, night: Slide) -> None:
    before = [each["cell_id"] for each in queue_of(running_desk)]
    cell = night.all_cells[0]
    with running_desk.client("anna") as anna:
        anna.open(night)
        anna.label(night, {cell: "monocyte"})
        after = [each["cell_id"] for each in queue_of(running_desk, "ben")]
        assert after == [each for each in before if each != cell]
        anna.label(night, {cell: None})
    assert [each["cell_id"] for each in queue_of(running_desk)] == before


def test_only_readers_get_the_queue(running_desk: RunningDesk, night: Slide) -> None:
    for name, status in (("vera", 403), ("adam", 403), ("clara", 200)):
        with running_desk.client(name) as person:
            assert person.http.get("/training-queue").status_code == status, name


@pytest.mark.parametrize("asked", ["2026-02-31", "1999-01-01", ""])
def test_a_night_that_is_none_shows_no_error(running_desk: RunningDesk, night: Slide, asked: str) -> None:
    with running_desk.client("anna") as anna:
        assert anna.http.get(f"/training-queue?night={asked}").status_code == 200


def test_cells_are_labelled_by_keys_and_taken_back(running_desk: RunningDesk, night: Slide, browser: Browser) -> None:
    """Two labels by key, the second taken back: one stands, of the kind of any review."""
    desk = running_desk
    waiting = queue_of(desk, "ben")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "bloodcell_desk", "value": desk.token("ben"), "url": desk.url}])
    page = context.new_page()
    page.goto(f"{desk.url}/training-queue?night={NIGHT}")
    expect(page.get_by_role("heading", name="Slide T-1")).to_be_visible()
    expect(page.locator(".picture-view .frame")).to_have_attribute("aria-busy", "false")
    page.keyboard.press("6")
    expect(page.get_by_text("Labelled: 1 of 40")).to_be_visible()
    expect(page.locator(".picture-view .frame")).to_have_attribute("aria-busy", "false")
    page.keyboard.press("b")
    expect(page.get_by_text("Labelled: 2 of 40")).to_be_visible()
    expect(page.locator(".saving-state")).to_have_text("✔ Saved")
    with page.expect_response("**/labels"):
        page.keyboard.press("u")
    expect(page.locator(".saving-state")).to_have_text("✔ Saved")
    expect(page.get_by_text("Labelled: 1 of 40")).to_be_visible()
    expect(page.locator(".toasts .notice")).to_have_count(0)
    context.close()
    found = desk.rows(
        "SELECT cell_id, coalesce(sub_label, class), is_blind, is_retraction FROM bloodcell.label "
        "WHERE labelled_by = 'ben' ORDER BY label_id"
    )
    assert found[0] == (waiting[0]["cell_id"], "ig", False, False)
    assert found[-1][0] == waiting[1]["cell_id"]
    assert found[-1][3] is True
    assert [each["cell_id"] for each in queue_of(desk, "ben")] == [each["cell_id"] for each in waiting[1:]]


def test_a_cell_without_a_picture_gets_no_label(running_desk: RunningDesk, night: Slide, browser: Browser) -> None:
    desk = running_desk
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "bloodcell_desk", "value": desk.token("ben"), "url": desk.url}])
    page = context.new_page()
    page.route("**/image*", lambda route: route.fulfill(status=404))
    page.goto(f"{desk.url}/training-queue?night={NIGHT}")
    before = desk.rows("SELECT count(*) FROM bloodcell.label")
    n_labelled = page.locator(".progress label").inner_text()
    for _ in range(2):
        expect(page.get_by_text("The picture is missing or altered in the store.")).to_be_visible()
        page.keyboard.press("6")
        expect(page.locator("[data-spoken]")).to_have_text("The picture is missing: the cell gets no label.")
        name = page.locator(".disputes bdi").nth(1).inner_text()
        page.get_by_role("button", name="Next cell, without a label").click()
        expect(page.locator(".disputes bdi").nth(1)).not_to_have_text(name)
    expect(page.locator(".progress label")).to_have_text(n_labelled)
    context.close()
    assert desk.rows("SELECT count(*) FROM bloodcell.label") == before
