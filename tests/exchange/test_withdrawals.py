"""What is not valid any more is taken back wherever it may have arrived, and is sent nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bloodcell.exchange.message_actions import send_from
from bloodcell.exchange.receiver_rows import remove_receiver
from tests.exchange.conftest import Exchange
from tests.exchange.hl7_receiver import acknowledged, status_of
from tests.exchange.killed_sender import send_and_die


def test_a_withdrawn_slide_is_taken_back_where_it_arrived_and_nowhere_else(exchange: Exchange) -> None:
    for barcode in ("S-1", "S-2", "S-3"):
        exchange.slide(barcode)
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    exchange.laboratory.sign("S-2", 1)
    exchange.withdraw("withdraw")
    exchange.send()
    found = exchange.messages("barcode", "kind", "state")
    assert found == [
        ("S-1", "result", "delivered"),
        ("S-2", "result", "superseded"),
        ("S-1", "withdrawal", "delivered"),
        ("S-2", "withdrawal", "superseded"),
    ]
    assert status_of(exchange.receiver.received[-1]) == ("X", {"W"})
    assert "Withdrawn: results of slide S-1 are not valid. wrong tube" in exchange.receiver.received[-1]
    exchange.withdraw("restore")
    exchange.send()
    of_first = [message for message in exchange.receiver.received if "|S-1^" in message]
    assert [status_of(message)[0] for message in of_first] == ["F", "X", "C"]
    assert [status_of(m)[0] for m in exchange.receiver.received if "|S-2^" in m] == ["F"]


@pytest.mark.slow
def test_a_result_that_was_answered_before_the_sender_was_killed_is_taken_back_all_the_same(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    send_and_die(exchange.settings, 1, "answered")
    exchange.withdraw("withdraw")
    exchange.send()
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["F", "X"]


def test_the_next_slide_with_a_barcode_waits_for_the_withdrawal_of_the_one_before(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    exchange.withdraw("withdraw")
    exchange.receiver.answer = lambda message: []
    exchange.send()
    exchange.slide()  # another slide, whose barcode this is
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message)]
    assert exchange.send().n_delivered == 0
    exchange.at_once()
    assert exchange.send().n_delivered == 2
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["F", "X", "X", "C"]


def test_an_unsigned_result_is_taken_back_when_the_slide_becomes_withheld(exchange: Exchange) -> None:
    exchange.configure("gets_unsigned = true")
    cells = exchange.slide()
    exchange.send()
    exchange.laboratory.label(cells[:1], ["BL"])
    exchange.laboratory.count()
    exchange.send()
    assert [status_of(message) for message in exchange.receiver.received] == [("P", {"P"}), ("X", {"W"})]
    assert "Withheld: results of slide S-1 are not to be used" in exchange.receiver.received[-1]
    exchange.laboratory.sign("S-1", 2)
    exchange.send()
    assert status_of(exchange.receiver.received[-1])[0] == "C"


def test_an_unsigned_version_that_waits_does_not_leave_once_the_slide_is_withheld(exchange: Exchange) -> None:
    exchange.configure("gets_unsigned = true")
    cells = exchange.slide()
    exchange.laboratory.label(cells[:1], ["BL"])
    exchange.laboratory.count()
    exchange.send()
    assert exchange.receiver.received == []


def test_what_is_withdrawn_while_others_are_sent_is_not_sent(exchange: Exchange) -> None:
    for barcode in ("S-1", "S-2"):
        exchange.slide(barcode)
        exchange.laboratory.sign(barcode, 1)

    def answer(message: str) -> list[bytes]:
        if len(exchange.receiver.received) == 1:
            exchange.withdraw("withdraw")
            exchange.wait_until_asked_again()
        return [acknowledged(message)]

    exchange.receiver.answer = answer
    exchange.send()
    exchange.send()
    # a sender had taken the second one, so its receiver is told, too
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["F", "X", "X"]


def test_a_receiver_that_comes_back_hears_of_what_was_withdrawn_meanwhile(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    remove_receiver(exchange.laboratory.database, "lis")
    exchange.withdraw("withdraw")
    exchange.configure()
    since = datetime.now(UTC) - timedelta(hours=1)
    n = send_from(exchange.laboratory.database, "lis", since, reason="it is back", requested_by="anna")
    assert (n, exchange.send().n_delivered) == (1, 1)
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["F", "X"]
