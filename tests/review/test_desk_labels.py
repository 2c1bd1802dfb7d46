"""What the database's function stores of the labels that people give at the desk, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.review.sessions import Session
from bloodcell.review.writing import Kind, RightMissingError, SessionEndedError, SlideHeldError, WriteRefusedError
from bloodcell.storage.connections import connect
from tests.laboratory import at_once
from tests.review.desk import RunningDesk, Slide, new_keys
from tests.storage.conftest import refused, until

SMALL = {"neutrophil": 2, "lymphocyte": 1}


@pytest.fixture
def slide(running_desk: RunningDesk) -> Slide:
    """A slide of three cells."""
    return running_desk.slide(SMALL)


def give(
    desk: RunningDesk,
    who: Session,
    slide: Slide | None,
    labels: Mapping[int, str | None],
    kind: Kind = "review",
    **more: Any,
) -> list[tuple[str, str | None]]:
    """Labels cells; returns outcome and text of each. The change names the newest label unless `seen` is given."""
    keys = more.pop("keys", None) or new_keys(len(labels))
    changes = []
    for key, (cell, label) in zip(keys, labels.items(), strict=True):
        newest = desk.rows("SELECT max(label_id) FROM bloodcell.label WHERE cell_id = :cell", cell=cell)[0][0]
        changes.append({"key": key, "cell_id": cell, "label": label, "seen": newest, **more})
    outcomes = desk.functions.label(who, kind, changes, slide.slide_id if slide else None)
    return [(each.outcome, each.text) for each in outcomes]


def standing(desk: RunningDesk, cell: int) -> list[tuple[str, str]]:
    """Returns the labels of a cell that count: person, label."""
    found = desk.rows(
        "SELECT labelled_by, label FROM bloodcell.standing_label WHERE cell_id = :cell ORDER BY label_id", cell=cell
    )
    return [(str(by), str(label)) for by, label in found]


def decided(desk: RunningDesk, cell: int) -> tuple[Any, ...] | None:
    """Returns what a cell counts as because of labels, and what people say of it if they disagree."""
    found = desk.rows("SELECT line, contested_labels FROM bloodcell.decided_cell WHERE cell_id = :cell", cell=cell)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("label", "stored"),
    [
        ("ig", ("ig", None)),
        ("IG", ("ig", None)),
        ("neutrophil", ("neutrophil", None)),
        ("SNE", ("neutrophil", "SNE")),
        ("LY", ("lymphocyte", None)),
        ("BNE", ("neutrophil", "BNE")),
        ("pmy", ("ig", "PMY")),
        ("BL", (None, "BL")),
        ("bl", (None, "BL")),
        ("ART", (None, "ART")),
    ],
)
def test_a_class_or_a_code_is_stored_as_one_appended_label(
    running_desk: RunningDesk, slide: Slide, label: str, stored: tuple[str | None, str | None]
) -> None:
    anna, (cell, *_) = running_desk.session("anna"), slide.all_cells
    assert give(running_desk, anna, slide, {cell: label}) == [("stored", None)]
    found = running_desk.rows(
        "SELECT class, sub_label, labelled_by, source, is_blind, is_adjudication, is_retraction, session_id "
        "FROM bloodcell.label WHERE cell_id = :cell",
        cell=cell,
    )
    assert found == [(*stored, "anna", "desk", False, False, False, anna.session_id)]


@pytest.mark.parametrize("label", ["blast", "X", "unclassified", "contested", "", "neutrophil; DROP TABLE label", "ïg"])
def test_what_is_no_class_and_no_code_is_refused(running_desk: RunningDesk, slide: Slide, label: str) -> None:
    outcome = give(running_desk, running_desk.session("anna"), slide, {slide.all_cells[0]: label})
    assert outcome == [("refused", "There is no such class or code.")]
    assert running_desk.labels(slide) == []


def test_a_change_that_arrives_twice_is_stored_once(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell, keys = running_desk.session("anna"), slide.all_cells[0], new_keys(1)
    for _ in range(3):
        # seen: None, as it was when the change was made, although the cell has a label by now
        assert give(running_desk, anna, slide, {cell: "ig"}, keys=keys, seen=None) == [("stored", None)]
    assert running_desk.labels(slide) == [(cell, "anna", "ig")]


def test_a_change_that_arrives_twice_at_once_is_stored_once(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell, keys = running_desk.session("anna"), slide.all_cells[0], new_keys(1)
    outcomes: list[tuple[str, str | None]] = []
    errors = at_once(6, lambda: outcomes.extend(give(running_desk, anna, slide, {cell: "ig"}, keys=keys, seen=None)))
    assert errors == []
    assert outcomes == [("stored", None)] * 6
    assert running_desk.labels(slide) == [(cell, "anna", "ig")]


def test_a_key_of_another_person_or_another_cell_is_refused(running_desk: RunningDesk, slide: Slide) -> None:
    anna, ben, (one, other, _) = running_desk.session("anna"), running_desk.session("ben"), slide.all_cells
    keys = new_keys(1)
    give(running_desk, anna, slide, {one: "ig"}, keys=keys)
    text = "The same request was used for something else."
    assert give(running_desk, ben, slide, {one: "monocyte"}, keys=keys) == [("refused", text)]
    assert give(running_desk, anna, slide, {other: "ig"}, keys=keys) == [("refused", text)]
    assert running_desk.labels(slide) == [(one, "anna", "ig")]


def test_each_of_two_changes_with_one_key_is_told_what_became_of_it(running_desk: RunningDesk, slide: Slide) -> None:
    anna, (one, other, _), key = running_desk.session("anna"), slide.all_cells, new_keys(1)[0]
    outcomes = give(running_desk, anna, slide, {other: "ig", one: "ig"}, keys=[key, key])
    assert [outcome for outcome, _ in outcomes] == ["refused", "stored"]
    assert running_desk.labels(slide) == [(one, "anna", "ig")]


def test_a_change_made_without_the_newest_label_in_sight_is_a_conflict(running_desk: RunningDesk, slide: Slide) -> None:
    anna, ben, cell = running_desk.session("anna"), running_desk.session("ben"), slide.all_cells[0]
    give(running_desk, anna, slide, {cell: "ig"})
    conflict = [("conflict", "anna has labelled this cell meanwhile.")]
    assert give(running_desk, ben, slide, {cell: "monocyte"}, seen=None) == conflict
    assert give(running_desk, ben, slide, {cell: "monocyte"}, seen=2**40) == conflict
    assert running_desk.labels(slide) == [(cell, "anna", "ig")]
    assert give(running_desk, ben, slide, {cell: "monocyte"}) == [("stored", None)]
    assert decided(running_desk, cell) == ("contested", "ig,monocyte")


def test_of_two_people_at_once_one_is_stored_and_one_is_told(running_desk: RunningDesk, slide: Slide) -> None:
    people = [running_desk.session(name) for name in ("anna", "ben", "clara", "dora")]
    cells = slide.all_cells
    outcomes: list[list[str]] = []

    def label() -> None:
        who = people.pop()
        outcomes.append([o for o, _ in give(running_desk, who, slide, dict.fromkeys(cells, "ig"), seen=None)])

    assert at_once(4, label) == []
    assert sorted(map(sorted, outcomes)) == [["conflict"] * 3] * 3 + [["stored"] * 3]
    assert len(running_desk.labels(slide)) == 3


def test_two_people_who_label_the_same_cells_in_opposite_order_do_not_deadlock(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 60})
    people = [running_desk.session("anna"), running_desk.session("ben")]
    cells = slide.all_cells

    def label() -> None:
        who = people.pop()
        ordered = cells if who.person.name == "anna" else cells[::-1]
        running_desk.functions.label(
            who,
            "review",
            [
                {"key": key, "cell_id": cell, "label": "ig", "seen": None}
                for cell, key in zip(ordered, new_keys(60), strict=True)
            ],
            slide.slide_id,
        )

    assert at_once(2, label) == []
    assert sorted(cell for cell, _, _ in running_desk.labels(slide)) == cells


def test_a_cell_of_another_slide_or_of_none_is_refused_and_the_others_are_stored(
    running_desk: RunningDesk, slide: Slide
) -> None:
    anna, other = running_desk.session("anna"), running_desk.slide(SMALL)
    labels = {other.all_cells[0]: "ig", 2**62: "ig", slide.all_cells[0]: "ig"}
    text = "The slide has no such cell any more."
    assert give(running_desk, anna, slide, labels) == [("refused", text), ("refused", text), ("stored", None)]
    assert running_desk.labels(other) == []


def test_cells_of_a_withdrawn_slide_are_labelled_in_no_way(running_desk: RunningDesk, slide: Slide) -> None:
    running_desk.withdraw(slide)
    cell = slide.all_cells[0]
    kinds: list[Kind] = ["review", "blind", "second", "adjudication"]
    for kind in kinds:
        outcome = give(running_desk, running_desk.session("clara"), slide, {cell: "ig"}, kind)
        assert outcome == [("refused", "The slide has no such cell any more.")], kind
    with pytest.raises(WriteRefusedError, match="no such slide"):
        running_desk.functions.lease(running_desk.session("anna"), slide.slide_id, take_over=True)
    with pytest.raises(WriteRefusedError, match="no such slide"):
        running_desk.functions.comment(running_desk.session("anna"), slide.slide_id, None, "late", new_keys(1)[0])


def test_somebody_elses_lease_refuses_the_whole_request_until_it_expires_or_is_taken_over(
    running_desk: RunningDesk, slide: Slide
) -> None:
    anna, ben, (one, other, third) = running_desk.session("anna"), running_desk.session("ben"), slide.all_cells
    assert running_desk.functions.lease(anna, slide.slide_id, take_over=False).is_mine
    lease = running_desk.functions.lease(ben, slide.slide_id, take_over=False)
    assert (lease.holder, lease.is_mine) == ("anna", False)
    with pytest.raises(SlideHeldError, match="anna is working on this slide") as held:
        give(running_desk, ben, slide, {one: "ig"})
    assert held.value.holder == "anna"
    running_desk.rows(
        "UPDATE bloodcell.slide_lease SET held_until = clock_timestamp() - interval '1 s' WHERE slide_id = :s",
        s=slide.slide_id,
    )
    assert give(running_desk, ben, slide, {one: "ig"}) == [("stored", None)]
    lease = running_desk.functions.lease(ben, slide.slide_id, take_over=False)
    assert (lease.holder, lease.is_mine) == ("ben", True)
    lease = running_desk.functions.lease(anna, slide.slide_id, take_over=True)
    assert (lease.holder, lease.is_mine) == ("anna", True)
    with pytest.raises(SlideHeldError):
        give(running_desk, ben, slide, {other: "ig"})
    assert give(running_desk, anna, slide, {third: "ig"}) == [("stored", None)]


def test_a_lease_is_a_persons_and_not_a_tabs(running_desk: RunningDesk, slide: Slide) -> None:
    first, second, ben = (running_desk.session(name) for name in ("anna", "anna", "ben"))
    running_desk.functions.lease(first, slide.slide_id, take_over=False)
    assert running_desk.functions.lease(second, slide.slide_id, take_over=False).is_mine
    running_desk.functions.end_lease(first, slide.slide_id)  # the other tab has it by now
    assert running_desk.functions.lease(ben, slide.slide_id, take_over=False).holder == "anna"
    running_desk.functions.end_lease(second, slide.slide_id)
    assert running_desk.functions.lease(ben, slide.slide_id, take_over=False).is_mine


def test_a_lease_ends_with_the_session_of_whoever_has_it(running_desk: RunningDesk, slide: Slide) -> None:
    anna, ben = running_desk.session("anna"), running_desk.session("ben")
    running_desk.functions.lease(anna, slide.slide_id, take_over=False)
    running_desk.sessions.end(anna)
    assert running_desk.functions.lease(ben, slide.slide_id, take_over=False).is_mine


def test_nobody_gives_back_the_slide_of_somebody_else(running_desk: RunningDesk, slide: Slide) -> None:
    anna, ben = running_desk.session("anna"), running_desk.session("ben")
    running_desk.functions.lease(anna, slide.slide_id, take_over=False)
    running_desk.functions.end_lease(ben, slide.slide_id)
    assert running_desk.functions.lease(ben, slide.slide_id, take_over=False).holder == "anna"


def test_a_label_is_taken_back_and_given_again(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    assert give(running_desk, anna, slide, {cell: None}) == [
        ("refused", "You have no label of this cell that you could take back.")
    ]
    give(running_desk, anna, slide, {cell: "BL"})
    assert give(running_desk, anna, slide, {cell: None}) == [("stored", None)]
    assert standing(running_desk, cell) == []
    assert decided(running_desk, cell) is None
    assert give(running_desk, anna, slide, {cell: None})[0][0] == "refused", "there is nothing left to take back"
    assert give(running_desk, anna, slide, {cell: "ig"}) == [("stored", None)]
    assert standing(running_desk, cell) == [("anna", "ig")]
    assert running_desk.labels(slide) == [(cell, "anna", "BL"), (cell, "anna", None), (cell, "anna", "ig")]


def test_taking_back_leaves_the_labels_of_others(running_desk: RunningDesk, slide: Slide) -> None:
    anna, ben, cell = running_desk.session("anna"), running_desk.session("ben"), slide.all_cells[0]
    give(running_desk, anna, slide, {cell: "ig"})
    give(running_desk, ben, slide, {cell: "monocyte"})
    assert decided(running_desk, cell) == ("contested", "ig,monocyte")
    give(running_desk, anna, slide, {cell: None})
    assert standing(running_desk, cell) == [("ben", "monocyte")]
    assert decided(running_desk, cell) == ("monocyte", None)


def test_a_label_with_a_time_ahead_of_the_clock_is_taken_back_all_the_same(
    running_desk: RunningDesk, slide: Slide
) -> None:
    # a file of labels may come from a computer whose clock is a few minutes fast
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    ahead = running_desk.rows("SELECT to_char(clock_timestamp() + interval '4 min', 'YYYY-MM-DD HH24:MI:SS.USOF')")[0][
        0
    ]
    running_desk.laboratory.label([cell], ["ig"], by="anna", at=ahead)
    assert give(running_desk, anna, slide, {cell: "monocyte"}) == [("stored", None)]
    assert standing(running_desk, cell) == [("anna", "monocyte")]
    assert give(running_desk, anna, slide, {cell: None}) == [("stored", None)]
    assert standing(running_desk, cell) == []


def test_a_person_is_one_person_in_whatever_case_the_name_is_written(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    running_desk.laboratory.label([cell], ["ig"], by="Anna")
    assert give(running_desk, anna, slide, {cell: "monocyte"}) == [("stored", None)]
    assert standing(running_desk, cell) == [("Anna", "monocyte")]


@pytest.mark.parametrize(
    ("name", "kind", "may"),
    [
        ("vera", "review", False),
        ("adam", "review", False),
        ("vera", "blind", False),
        ("anna", "second", False),
        ("anna", "adjudication", False),
        ("adam", "adjudication", False),
        ("clara", "review", True),
    ],
)
def test_each_kind_of_label_needs_its_role(
    running_desk: RunningDesk, slide: Slide, name: str, kind: Kind, may: bool
) -> None:
    who, cell = running_desk.session(name), slide.all_cells[0]
    if may:
        assert give(running_desk, who, slide, {cell: "ig"}, kind) == [("stored", None)]
        return
    with pytest.raises(RightMissingError):
        give(running_desk, who, slide, {cell: "ig"}, kind)
    assert running_desk.labels(slide) == []


def test_a_session_that_has_ended_labels_nothing(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    running_desk.sessions.end(anna)
    with pytest.raises(SessionEndedError):
        give(running_desk, anna, slide, {cell: "ig"})
    assert running_desk.labels(slide) == []


def test_a_kind_that_does_not_exist_and_a_review_without_a_slide_store_nothing(
    running_desk: RunningDesk, slide: Slide
) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    with refused("22023"):
        give(running_desk, anna, slide, {cell: "ig"}, "other")  # type: ignore[arg-type]
    assert give(running_desk, anna, None, {cell: "ig"})[0][0] == "refused"
    assert running_desk.labels(slide) == []


def test_a_note_with_characters_that_nobody_sees_is_refused(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    for note in ("\u202ekcab", "zero\u200bwidth", "bell\u0007"):
        assert give(running_desk, anna, slide, {cell: "ig"}, note=note) == [
            ("refused", "The note has characters that nobody sees. Type it again.")
        ]
    assert give(running_desk, anna, slide, {cell: "ig"}, note="  two\nlines ") == [("stored", None)]
    assert running_desk.rows("SELECT note FROM bloodcell.label WHERE cell_id = :c", c=cell) == [("two\nlines",)]


def test_somebody_who_waits_for_a_cell_sees_what_the_first_one_said(running_desk: RunningDesk, slide: Slide) -> None:
    anna, cell = running_desk.session("anna"), slide.all_cells[0]
    outcomes: list[tuple[str, str | None]] = []
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
    with connect(running_desk.database_url).begin() as connection:
        connection.execute(
            sa.text("SELECT 1 FROM bloodcell.cell WHERE cell_id = :cell FOR NO KEY UPDATE"), {"cell": cell}
        )
        thread = threading.Thread(
            target=lambda: outcomes.extend(give(running_desk, anna, slide, {cell: "ig"}, seen=None))
        )
        thread.start()
        until(lambda: running_desk.rows(waiting))
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, source) "
                "VALUES (:cell, 'monocyte', 'ben', now(), false, 'csv')"
            ),
            {"cell": cell},
        )
    thread.join()
    assert outcomes == [("conflict", "ben has labelled this cell meanwhile.")]
