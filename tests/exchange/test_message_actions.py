"""People decide about messages that were rejected or lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bloodcell.errors import AlreadyDoneError, ConfigurationError, UnknownRecordError
from bloodcell.exchange.message_actions import MessageDecision, decide_on_messages, send_from
from tests.exchange.conftest import Exchange
from tests.exchange.hl7_receiver import acknowledged, status_of


def test_a_rejected_message_waits_for_a_person_and_keeps_the_next_version_waiting(exchange: Exchange) -> None:
    cells = exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message, "AE", "unknown order")]
    assert exchange.send().n_held == 1
    exchange.correct(cells, 2)
    exchange.receiver.answer = lambda message: [acknowledged(message)]
    assert exchange.send().n_delivered == 0
    found = exchange.messages("version", "state", "last_answer")
    assert found == [(2, "held", "AE unknown order"), (4, "waiting", None)]

    replay = MessageDecision("replay", "the order is known now", "anna")
    assert decide_on_messages(exchange.laboratory.database, replay) == 1
    assert exchange.send().n_delivered == 2
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["F", "F", "C"]
    assert exchange.receiver.ids[0] == exchange.receiver.ids[1] != exchange.receiver.ids[2]
    with pytest.raises(AlreadyDoneError, match="No message was rejected"):
        decide_on_messages(exchange.laboratory.database, replay)


def test_a_skipped_message_lets_the_next_version_through(exchange: Exchange) -> None:
    cells = exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message, "AR")]
    exchange.send()
    exchange.correct(cells, 2)
    skip = MessageDecision("skip", "entered by hand", "anna", receiver="lis")
    assert decide_on_messages(exchange.laboratory.database, skip) == 1
    exchange.receiver.answer = lambda message: [acknowledged(message)]
    assert exchange.send().n_delivered == 1
    assert exchange.messages("version", "kind", "state") == [(2, "result", "skipped"), (4, "result", "delivered")]
    history = exchange.laboratory.rows("SELECT action, reason, requested_by FROM bloodcell.message_action_history")
    assert history == [("skip", "entered by hand", "anna")]


@pytest.mark.parametrize("reason", ["", "  ", "all \u202e is well"])
def test_a_decision_needs_a_reason_that_people_can_read(exchange: Exchange, reason: str) -> None:
    with pytest.raises(ConfigurationError, match="Expected a reason in words"):
        decide_on_messages(exchange.laboratory.database, MessageDecision("skip", reason, "anna"))


def test_a_decision_about_an_unknown_slide_is_refused(exchange: Exchange) -> None:
    with pytest.raises(UnknownRecordError, match="No message is about slide 'S-9'"):
        decide_on_messages(exchange.laboratory.database, MessageDecision("skip", "r", "anna", barcode="S-9"))


def test_a_message_that_is_skipped_while_it_is_on_its_way_stays_skipped(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)

    def answer(message: str) -> list[bytes]:
        decide_on_messages(exchange.laboratory.database, MessageDecision("skip", "by hand", "anna", barcode="S-1"))
        return []

    exchange.receiver.answer = answer
    exchange.send()
    exchange.at_once()
    exchange.receiver.answer = lambda message: [acknowledged(message)]
    exchange.send()
    assert (exchange.messages("state", "n_attempts"), len(exchange.receiver.received)) == ([("skipped", 1)], 1)


def test_a_receiver_that_was_not_in_the_file_gets_what_is_signed_from_then_on(exchange: Exchange) -> None:
    exchange.slide()
    with exchange.laboratory.database.begin() as connection:
        connection.exec_driver_sql("UPDATE bloodcell.receiver SET removed_at = now()")
    exchange.laboratory.sign("S-1", 1)
    exchange.configure()
    assert exchange.send().n_delivered == 0
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)

    def send_since(receiver: str) -> int:
        database = exchange.laboratory.database
        return send_from(database, receiver, an_hour_ago, reason="it was away", requested_by="anna")

    assert (send_since("lis"), send_since("lis")) == (1, 0)
    assert exchange.send().n_delivered == 1
    with pytest.raises(UnknownRecordError, match=r"No receiver is called 'sil'. Expected one of: lis"):
        send_since("sil")
    history = exchange.laboratory.rows("SELECT action, reason, requested_by FROM bloodcell.message_action_history")
    assert history == [("replay", "it was away", "anna")]
