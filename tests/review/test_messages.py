"""The page of the messages to other systems: what it shows, and what a senior decides there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.review.desk import RunningDesk


@pytest.fixture
def rejected(running_desk: RunningDesk) -> Iterator[int]:
    """A message that its receiver has rejected; its key."""
    running_desk.rows(
        "INSERT INTO bloodcell.receiver (name, protocol, gets_unsigned) VALUES ('lis', 'hl7', false) "
        "ON CONFLICT DO NOTHING"
    )
    slide = running_desk.slide({"neutrophil": 60})
    with running_desk.client("anna") as anna:
        anna.ask_sign(slide).raise_for_status()
    with running_desk.laboratory.database.connect() as connection:
        message = int(connection.scalar(sa.text("SELECT max(message_id) FROM bloodcell.outgoing_message")) or 0)
    running_desk.rows("UPDATE bloodcell.outgoing_message SET state = 'held' WHERE message_id = :id", id=message)
    running_desk.rows(
        "INSERT INTO bloodcell.message_attempt (message_id, started_at, outcome, answer) "
        "VALUES (:id, now(), 'rejected', 'AE unknown <b>order</b>')",
        id=message,
    )
    yield message
    running_desk.rows("UPDATE bloodcell.outgoing_message SET state = 'skipped'")


def state(desk: RunningDesk) -> list[tuple[object, ...]]:
    return desk.laboratory.rows("SELECT state FROM bloodcell.outgoing_message ORDER BY message_id DESC LIMIT 1")


@pytest.mark.parametrize(("action", "then"), [("replay", "waiting"), ("skip", "skipped")])
def test_a_senior_decides_about_a_rejected_message(
    running_desk: RunningDesk, rejected: int, action: str, then: str
) -> None:
    with running_desk.client("vera") as vera:
        page = vera.http.get("/messages")
        assert "AE unknown &lt;b&gt;order&lt;/b&gt;" in page.text
        assert "/messages/decide" not in page.text
    asked = {"message": str(rejected), "action": action, "reason": "the order is known now"}
    with running_desk.client("anna") as anna:
        refused = anna.http.post("/messages/decide", data={**asked, "csrf": anna.csrf})
        assert (refused.status_code, state(running_desk)) == (403, [("held",)])
    with running_desk.client("clara") as clara:
        assert "/messages/decide" in clara.http.get("/messages").text
        done = clara.http.post("/messages/decide", data={**asked, "csrf": clara.csrf})
        assert (done.status_code, state(running_desk)) == (303, [(then,)])
        again = clara.http.post("/messages/decide", data={**asked, "csrf": clara.csrf})
        assert again.status_code == 422
    history = f"SELECT action, reason, requested_by FROM bloodcell.message_action_history WHERE message_id = {rejected}"
    assert running_desk.laboratory.rows(history) == [(action, "the order is known now", "clara")]


def test_a_reason_that_nobody_sees_is_refused(running_desk: RunningDesk, rejected: int) -> None:
    asked = {"message": str(rejected), "action": "skip", "reason": "all \u202e well"}
    with running_desk.client("clara") as clara:
        assert clara.http.post("/messages/decide", data={**asked, "csrf": clara.csrf}).status_code == 422
    assert state(running_desk) == [("held",)]


def test_the_page_says_so_if_nothing_waits(running_desk: RunningDesk) -> None:
    with running_desk.client("vera") as vera:
        assert "Nothing waits and nothing was rejected." in vera.http.get("/messages").text
        assert 'href="/messages"' not in vera.http.get("/").text  # no exchange file is configured
