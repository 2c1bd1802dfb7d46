"""What a failed quality control holds does not leave, not even if it was signed before, until a person overrides it."""

from __future__ import annotations

import sqlalchemy as sa

from bloodcell.results.overriding import override_check
from bloodcell.withdrawal import WithdrawalRequest, withdraw_slide
from tests.exchange.conftest import Exchange
from tests.exchange.hl7_receiver import status_of
from tests.laboratory import SIGNER


def fail_control(exchange: Exchange, analyser: str = "DM96") -> int:
    """Records a failed control of the night, as the quality control does; returns the check."""
    with exchange.laboratory.database.begin() as connection:
        statement = sa.text(
            "INSERT INTO bloodcell.quality_check (kind, subject, night, analyser, whole_night, passed, reason, "
            "figures, run_id) VALUES ('control', 'QC-1', :night, :analyser, false, false, 'off target', '{}', :run) "
            "RETURNING check_id"
        )
        values = {"night": exchange.laboratory.night, "analyser": analyser, "run": exchange.laboratory.run_id}
        return int(connection.scalar(statement, values) or 0)


def override(exchange: Exchange, check: int) -> None:
    url = sa.make_url(exchange.settings.plain_database_url or "").set(username=SIGNER)
    personal = exchange.settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    override_check(personal, check, "The repeat was on target.")


def test_a_result_that_was_signed_before_the_control_failed_waits_with_its_reason(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    check = fail_control(exchange)
    sent = exchange.send()
    assert (sent.n_delivered, sent.n_left, exchange.receiver.received) == (0, 1, [])
    assert exchange.messages("state", "waits_for_quality") == [("waiting", True)]
    override(exchange, check)
    assert exchange.send().n_delivered == 1
    assert exchange.messages("state", "waits_for_quality") == [("delivered", False)]


def test_slides_of_another_analyser_leave(exchange: Exchange) -> None:
    exchange.slide()
    exchange.slide("S-2", analyser="DM9600")
    exchange.laboratory.sign("S-1", 1)
    exchange.laboratory.sign("S-2", 1)
    fail_control(exchange)
    assert exchange.send().n_delivered == 1
    assert exchange.messages("barcode", "state") == [("S-1", "waiting"), ("S-2", "delivered")]


def test_an_unsigned_result_that_was_sent_is_taken_back_when_its_night_fails(exchange: Exchange) -> None:
    exchange.configure("gets_unsigned = true")
    exchange.slide()
    exchange.send()
    check = fail_control(exchange)
    exchange.laboratory.count()
    exchange.send()
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["P", "X"]
    override(exchange, check)
    exchange.laboratory.count()
    exchange.send()
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["P", "X", "P"]


def test_a_withdrawal_leaves_though_the_night_is_held(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    fail_control(exchange)
    withdraw_slide(exchange.settings, WithdrawalRequest("S-1", "wrong patient", "tests"))
    exchange.send()
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["F", "X"]


def test_a_control_that_fails_while_messages_are_being_sent_stops_the_rest(exchange: Exchange) -> None:
    for number in range(3):
        exchange.slide(f"S-{number}")
        exchange.laboratory.sign(f"S-{number}", 1)
    answer = exchange.receiver.answer

    def fail_first(message: str) -> list[bytes]:
        if len(exchange.receiver.received) == 1:
            fail_control(exchange)
            exchange.wait_until_asked_again()
        return answer(message)

    exchange.receiver.answer = fail_first
    assert exchange.send().n_delivered == 1
    states = sorted(exchange.messages("state"))
    assert states == [("delivered",), ("waiting",), ("waiting",)]
