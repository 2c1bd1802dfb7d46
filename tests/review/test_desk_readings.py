"""Blind readings, second readings and adjudications through the database's function, and what they count for."""

from __future__ import annotations

import re

import pytest

from bloodcell.review.sessions import Session
from bloodcell.review.writing import Kind
from tests.review.desk import Reader, RunningDesk, Slide, new_keys

SEEN_BEFORE = "You have seen this cell or its slide before, so you cannot read it blind any more."


def read(
    desk: RunningDesk, who: Session, cell: int, label: str, kind: Kind = "blind", key: str = ""
) -> tuple[str, str | None]:
    """Labels one cell; a change that has to name the newest label names it."""
    newest = desk.rows("SELECT max(label_id) FROM bloodcell.label WHERE cell_id = :cell", cell=cell)[0][0]
    slide_id = desk.rows("SELECT slide_id FROM bloodcell.cell WHERE cell_id = :cell", cell=cell)[0][0]
    change = {"key": key or new_keys(1)[0], "cell_id": cell, "label": label, "seen": newest}
    (outcome,) = desk.functions.label(who, kind, [change], slide_id)
    return outcome.outcome, outcome.text


def evidence(desk: RunningDesk, cell: int) -> list[tuple[str, str]]:
    """Returns the blind readings of a cell that judge models: person, label."""
    found = desk.rows(
        "SELECT labelled_by, label FROM bloodcell.blind_label WHERE cell_id = :c ORDER BY label_id", c=cell
    )
    return [(str(by), str(label)) for by, label in found]


@pytest.fixture
def slide(running_desk: RunningDesk) -> Slide:
    """A slide of three cells, of which the first two are in the random sample, the first to be read twice."""
    slide = running_desk.slide({"neutrophil": 3})
    running_desk.laboratory.sample(slide.all_cells[:2], read_twice=slide.all_cells[:1])
    return slide


def test_a_blind_reading_of_a_sampled_cell_is_evidence_once_per_person(running_desk: RunningDesk, slide: Slide) -> None:
    anna, ben, cell = running_desk.session("anna"), running_desk.session("ben"), slide.all_cells[0]
    assert read(running_desk, anna, cell, "ig") == ("stored", None)
    assert read(running_desk, anna, cell, "monocyte") == ("refused", SEEN_BEFORE)
    assert read(running_desk, ben, cell, "monocyte") == ("stored", None), "without being told of the first reading"
    assert evidence(running_desk, cell) == [("anna", "ig"), ("ben", "monocyte")]


def test_a_blind_reading_that_arrives_twice_is_stored_once(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell, key = running_desk.session("anna"), slide.all_cells[0], new_keys(1)[0]
    for _ in range(2):
        assert read(running_desk, anna, cell, "ig", key=key) == ("stored", None)
    assert evidence(running_desk, cell) == [("anna", "ig")]


def test_a_cell_outside_the_sample_is_not_read_blind(running_desk: RunningDesk, slide: Slide) -> None:
    assert read(running_desk, running_desk.session("anna"), slide.all_cells[2], "ig")[0] == "refused"


def test_whoever_has_opened_the_slide_reads_none_of_its_cells_blind(running_desk: RunningDesk, slide: Slide) -> None:
    first, later, ben, cell = (*(running_desk.session(name) for name in ("anna", "anna", "ben")), slide.all_cells[0])
    running_desk.functions.open_slide(first, slide.slide_id)
    for session in (first, later):
        assert read(running_desk, session, cell, "ig") == ("refused", SEEN_BEFORE)
    assert read(running_desk, ben, cell, "ig") == ("stored", None)


def test_an_opening_after_the_reading_leaves_the_evidence(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    read(running_desk, anna, cell, "ig")
    running_desk.functions.open_slide(anna, slide.slide_id)
    assert read(running_desk, anna, cell, "monocyte", "review") == ("stored", None)
    assert evidence(running_desk, cell) == [("anna", "ig")], "what is said with the call in sight is no evidence"


def test_a_label_of_a_file_before_the_reading_makes_it_refused(running_desk: RunningDesk, slide: Slide) -> None:
    cell = slide.all_cells[0]
    running_desk.laboratory.label([cell], ["ig"], by="ANNA")
    assert read(running_desk, running_desk.session("anna"), cell, "ig") == ("refused", SEEN_BEFORE)


def test_a_blind_reading_is_taken_back_only_with_the_call_in_sight_and_stays_evidence(
    running_desk: RunningDesk, slide: Slide
) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    read(running_desk, anna, cell, "ig")
    back = {"key": new_keys(1)[0], "cell_id": cell, "label": None}
    (outcome,) = running_desk.functions.label(anna, "blind", [back], slide.slide_id)
    assert outcome.outcome == "refused"
    assert running_desk.rows("SELECT count(*) FROM bloodcell.standing_label WHERE cell_id = :c", c=cell) == [(1,)]


@pytest.mark.parametrize("path", ["labels", "cells", "comments"])
def test_every_answer_with_calls_in_it_counts_as_opening_the_slide(
    running_desk: RunningDesk, slide: Slide, path: str
) -> None:
    cell = slide.all_cells[0]
    with running_desk.client("anna") as anna:
        if path == "cells":
            anna.http.get(f"/api/slides/{slide.slide_id}/cells/{cell}").raise_for_status()
        elif path == "labels":  # a change that is a conflict answers with the cell, and leaves no label
            anna.seen[cell] = 2**40
            assert anna.ask_label(slide, {cell: "ig"}).json()["outcomes"][0]["outcome"] == "conflict"
        else:
            anna.ask_comment(slide, "a question").raise_for_status()
    assert read(running_desk, running_desk.session("anna"), cell, "ig") == ("refused", SEEN_BEFORE)


def test_a_picture_alone_does_not_count_as_opening(running_desk: RunningDesk, slide: Slide) -> None:
    cell = slide.all_cells[0]
    with running_desk.client("anna") as anna:
        anna.http.get(f"/slides/{slide.slide_id}/cells/{cell}/image").raise_for_status()
        anna.http.get("/").raise_for_status()
    assert read(running_desk, running_desk.session("anna"), cell, "ig") == ("stored", None)


def test_cells_that_wait_for_a_blind_reading_are_nobodys_example(running_desk: RunningDesk) -> None:
    sampled, looked_at = running_desk.slide({"eosinophil": 4}), running_desk.slide({"eosinophil": 2})
    running_desk.laboratory.sample(sampled.all_cells[:2], read_twice=sampled.all_cells[:1])
    clara = running_desk.session("clara")
    for cell in sampled.all_cells[:2]:
        read(running_desk, clara, cell, "eosinophil")
    running_desk.laboratory.label(sampled.all_cells[2:], ["eosinophil"] * 2, by="clara")
    with running_desk.client("anna") as anna:
        detail = anna.ok("GET", f"/api/slides/{looked_at.slide_id}/cells/{looked_at.all_cells[0]}")
    shown = {cell["url"] for each in detail["examples"] for cell in each["cells"]}
    assert shown == {f"/slides/{sampled.slide_id}/cells/{cell}/image" for cell in sampled.all_cells[1:]}


def test_a_second_reading_needs_no_label_in_sight_and_is_not_the_first_persons(
    running_desk: RunningDesk, slide: Slide
) -> None:
    clara, dora, cell = running_desk.session("clara"), running_desk.session("dora"), slide.all_cells[2]
    assert read(running_desk, clara, cell, "BL", "review") == ("stored", None)
    assert read(running_desk, clara, cell, "BL", "second") == (
        "refused",
        "You have labelled this cell; another person has to read it.",
    )
    assert read(running_desk, dora, cell, "BL", "second") == ("stored", None)
    blind = running_desk.rows("SELECT labelled_by, is_blind FROM bloodcell.label WHERE cell_id = :c ORDER BY 1", c=cell)
    assert blind == [("clara", False), ("dora", True)]


def test_a_second_reading_after_opening_the_slide_is_not_called_blind(running_desk: RunningDesk, slide: Slide) -> None:
    dora, cell = running_desk.session("dora"), slide.all_cells[0]
    running_desk.functions.open_slide(dora, slide.slide_id)
    assert read(running_desk, dora, cell, "BL", "second") == ("stored", None)
    assert running_desk.rows("SELECT is_blind FROM bloodcell.label WHERE cell_id = :c", c=cell) == [(False,)]
    assert evidence(running_desk, cell) == []


def test_only_a_contested_cell_is_settled_and_not_by_a_party(running_desk: RunningDesk, slide: Slide) -> None:
    anna, clara, dora, cell = (*(running_desk.session(name) for name in ("anna", "clara", "dora")), slide.all_cells[0])
    agree = ("refused", "People agree on this cell by now.")
    assert read(running_desk, dora, cell, "ig", "adjudication") == agree
    read(running_desk, anna, cell, "ig", "review")
    assert read(running_desk, dora, cell, "ig", "adjudication") == agree
    read(running_desk, clara, cell, "monocyte", "review")
    party = ("refused", "You have labelled this cell, so another person has to settle it.")
    assert read(running_desk, clara, cell, "ig", "adjudication") == party
    assert read(running_desk, dora, cell, "lymphocyte", "adjudication") == ("stored", None)
    assert running_desk.rows(
        "SELECT state, class, is_adjudicated, n_people FROM bloodcell.current_label WHERE cell_id = :c", c=cell
    ) == [("confirmed", "lymphocyte", True, 1)]
    assert read(running_desk, dora, cell, "ig", "adjudication")[0] == "refused"


def test_an_adjudication_of_what_has_changed_meanwhile_is_a_conflict(running_desk: RunningDesk, slide: Slide) -> None:
    cell = slide.all_cells[0]
    running_desk.laboratory.label([cell], ["ig"], by="anna")
    running_desk.laboratory.label([cell], ["monocyte"], by="ben")
    change = {"key": new_keys(1)[0], "cell_id": cell, "label": "ig", "seen": 1}
    (outcome,) = running_desk.functions.label(running_desk.session("dora"), "adjudication", [change])
    assert (outcome.outcome, outcome.text) == ("conflict", "ben has labelled this cell meanwhile.")


def test_two_adjudications_at_once_settle_a_cell_once(running_desk: RunningDesk, slide: Slide) -> None:
    from tests.laboratory import at_once

    cell = slide.all_cells[0]
    running_desk.laboratory.label([cell], ["ig"], by="anna")
    running_desk.laboratory.label([cell], ["monocyte"], by="ben")
    people, outcomes = [running_desk.session("clara"), running_desk.session("dora")], []
    assert at_once(2, lambda: outcomes.append(read(running_desk, people.pop(), cell, "ig", "adjudication")[0])) == []
    assert sorted(outcomes) in (["conflict", "stored"], ["refused", "stored"])


def test_an_adjudication_counts_although_a_label_has_a_time_ahead_of_the_clock(
    running_desk: RunningDesk, slide: Slide
) -> None:
    cell = slide.all_cells[0]
    ahead = running_desk.rows("SELECT CAST(clock_timestamp() + interval '4 min' AS text)")[0][0]
    running_desk.laboratory.label([cell], ["ig"], by="anna", at=ahead)
    running_desk.laboratory.label([cell], ["monocyte"], by="ben")
    read(running_desk, running_desk.session("dora"), cell, "eosinophil", "adjudication")
    assert running_desk.rows("SELECT state, class FROM bloodcell.current_label WHERE cell_id = :c", c=cell) == [
        ("confirmed", "eosinophil")
    ]


def test_an_adjudication_is_not_taken_back(running_desk: RunningDesk, slide: Slide) -> None:
    dora, cell = running_desk.session("dora"), slide.all_cells[0]
    running_desk.laboratory.label([cell], ["ig"], by="anna")
    running_desk.laboratory.label([cell], ["monocyte"], by="ben")
    read(running_desk, dora, cell, "ig", "adjudication")
    with running_desk.client("dora") as client:
        client.open(slide)
        (outcome,) = client.label(slide, {cell: None})["outcomes"]
    assert outcome["text"] == "You have no label of this cell that you could take back."


def waiting(reader: Reader, page: str) -> tuple[int, int]:
    """Returns how much waits on a page, as the navigation says, and as the page itself does."""
    shown = reader.http.get(page).raise_for_status().text
    told = re.search(rf'href="{page}"[^>]*>[^<]*<span class="n">(\d+)<', shown)
    assert told is not None
    return int(told[1]), shown.count('"cell_id":')


def test_the_navigation_counts_what_the_pages_show(running_desk: RunningDesk, slide: Slide) -> None:
    labelled, contested, session = (
        running_desk.slide({"neutrophil": 2}),
        running_desk.slide(),
        running_desk.session("dora"),
    )
    running_desk.laboratory.sample(labelled.all_cells)
    running_desk.functions.open_slide(session, slide.slide_id)
    read(running_desk, session, labelled.all_cells[0], "ig")
    cells = contested.all_cells[:2]
    running_desk.laboratory.label(cells, ["ig", "ig"], by="anna")
    running_desk.laboratory.label(cells, ["monocyte", "monocyte"], by="ben")
    running_desk.laboratory.label(cells[:1], ["monocyte"], by="dora")
    with running_desk.client("dora") as dora, running_desk.client("clara") as clara:
        dora.open(contested)
        dora.label(contested, {cells[0]: None})  # she stays a party
        for page in ("/blind", "/adjudication"):
            (of_dora, shown_to_dora), (of_clara, shown_to_clara) = waiting(dora, page), waiting(clara, page)
            assert (of_dora, of_clara) == (shown_to_dora, shown_to_clara)
            assert 0 < of_dora < of_clara
