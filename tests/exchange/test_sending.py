"""Signed results reach a receiver, once and in order, whatever it answers."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import DatabaseUnavailableError
from bloodcell.exchange import outbox
from bloodcell.exchange.message_actions import MessageDecision, decide_on_messages
from bloodcell.exchange.receiver_rows import remove_receiver
from bloodcell.exchange.sending import send_results
from tests.exchange.conftest import Exchange
from tests.exchange.hl7_receiver import acknowledged, control_id, receiving, status_of
from tests.exchange.killed_sender import When, send_and_die
from tests.laboratory import at_once
from tests.reverse_proxy import make_certificate


def test_a_result_leaves_when_it_is_signed_and_not_before(exchange: Exchange) -> None:
    exchange.slide()
    assert (exchange.send().n_delivered, exchange.receiver.received) == (0, [])
    exchange.laboratory.sign("S-1", 1)
    assert exchange.messages("barcode", "version", "result_state", "state") == [("S-1", 2, "final", "waiting")]
    assert str(exchange.send()) == "lis: 1 message delivered."
    found = exchange.messages("state", "n_attempts", "last_outcome", "last_answer")
    assert found == [("delivered", 1, "delivered", "AA")]
    assert [(each,) for each in exchange.receiver.ids] == exchange.messages("control_id")
    assert exchange.send().n_delivered == 0


def test_a_signature_that_is_undone_leaves_no_message(exchange: Exchange) -> None:
    exchange.slide()
    with exchange.laboratory.database.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("SET LOCAL ROLE bloodcell_owner"))
        statement = "SELECT bloodcell.sign_newest('S-1', 1, 'final', NULL, 'anna', NULL)"
        assert connection.scalar(sa.text(statement)) == 2
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.outgoing_message")) == 1
        transaction.rollback()
    assert exchange.messages("state") == []


def test_partial_final_and_corrected_arrive_in_this_order(exchange: Exchange) -> None:
    exchange.configure("gets_unsigned = true")
    cells = exchange.slide()
    exchange.send()
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    exchange.correct(cells, 2)
    exchange.send()
    assert [status_of(message) for message in exchange.receiver.received] == [("P", {"P"}), ("F", {"F"}), ("C", {"C"})]
    assert len(set(exchange.receiver.ids)) == 3


def test_an_unsigned_version_does_not_leave_after_a_signature_or_once_it_is_superseded(exchange: Exchange) -> None:
    exchange.configure("gets_unsigned = true")
    cells = exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.laboratory.label(cells[:1], ["lymphocyte"])
    exchange.laboratory.count()  # version 3 waits for a signature
    exchange.send()
    assert exchange.messages("version", "kind", "state") == [(1, "result", "superseded"), (2, "result", "delivered")]
    assert [status_of(message)[0] for message in exchange.receiver.received] == ["F"]


def test_a_withheld_result_never_leaves_before_it_is_signed(exchange: Exchange) -> None:
    exchange.configure("gets_unsigned = true")
    exchange.slide(n=20)
    assert exchange.laboratory.rows("SELECT state FROM bloodcell.result") == [("withheld",)]
    exchange.send()
    assert exchange.receiver.received == []


def test_a_receiver_that_is_away_gets_everything_in_order_when_it_is_back(exchange: Exchange) -> None:
    cells = exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port, exchange.receiver.port = exchange.receiver.port, taken.getsockname()[1]
        exchange.configure()
        sent = exchange.send()
    assert (sent.n_delivered, sent.n_left) == (0, 1)
    assert "cannot be reached" in sent.trouble
    exchange.correct(cells, 2)
    exchange.slide("S-2")
    exchange.laboratory.sign("S-2", 1)
    exchange.receiver.port = port
    exchange.configure()
    assert exchange.send().n_delivered == 1  # S-2 has not been tried, S-1 waits for its next attempt
    (wait,) = exchange.laboratory.rows(
        "SELECT extract(epoch FROM next_attempt_at - last_attempt_at) BETWEEN 59 AND 61 FROM bloodcell.message "
        "WHERE n_attempts = 1 AND state = 'waiting'"
    )
    assert wait == (True,)
    exchange.at_once()
    assert exchange.send().n_delivered == 2
    of_first = [message for message in exchange.receiver.received if "|S-1^" in message]
    assert [status_of(message)[0] for message in of_first] == ["F", "C"]


def test_pauses_grow_from_a_minute_to_an_hour(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: []
    pauses = []
    for _ in range(8):
        exchange.at_once()
        exchange.send()
        pause = "SELECT round(extract(epoch FROM next_attempt_at - last_attempt_at) / 60)::int FROM bloodcell.message"
        pauses += exchange.laboratory.rows(pause)
    assert pauses == [(1,), (2,), (4,), (8,), (16,), (32,), (60,), (60,)]
    assert len(set(exchange.receiver.ids)) == 1


def noise(message: str) -> bytes:
    return acknowledged(message, of="another")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (lambda m: [acknowledged(m)[:-2]], "half|without the end"),
        (lambda m: [b"\x0bnonsense\x1c\r"], "No answer within 1 s"),
        (lambda m: [noise(m)], "No answer within 1 s"),
        (lambda m: [acknowledged(m, "ZZ")], "No answer within 1 s"),
        (lambda m: [b"\x0b" + b"x" * 70_000], "longer than 65,536 bytes"),
        (lambda m: [], "closed the connection without an answer"),
    ],
    ids=["half", "nonsense", "another message's", "unknown code", "endless", "none"],
)  # fmt: skip
def test_what_is_no_answer_is_sent_again_under_the_same_id(exchange: Exchange, answers: object, told: str) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = answers  # type: ignore[assignment]
    sent = exchange.send()
    assert (sent.n_delivered, sent.n_left) == (0, 1)
    assert any(part in sent.trouble for part in told.split("|")), sent.trouble
    exchange.receiver.answer = lambda message: [acknowledged(message)]
    exchange.at_once()
    assert exchange.send().n_delivered == 1
    assert len(set(exchange.receiver.ids)) == 1
    attempts = exchange.laboratory.rows("SELECT outcome FROM bloodcell.message_attempts ORDER BY attempt_id")
    assert attempts == [("no_answer",), ("delivered",)]


def test_repeated_and_late_answers_are_not_taken_for_the_next_message(exchange: Exchange) -> None:
    for barcode in ("S-1", "S-2", "S-3"):
        exchange.slide(barcode)
        exchange.laboratory.sign(barcode, 1)
    seen: list[str] = []

    def answer(message: str) -> list[bytes]:
        seen.append(message)
        if len(seen) == 2:  # the first one's answer once more, as an error, then this one's
            return [acknowledged(seen[0], "AE", "late"), acknowledged(message)]
        return [acknowledged(message), acknowledged(message, "AE", "twice")]

    exchange.receiver.answer = answer
    assert exchange.send().n_delivered == 3
    assert {state for (state,) in exchange.messages("state")} == {"delivered"}


def test_an_answer_in_another_character_set_and_with_other_delimiters_is_read(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: [
        (f"\x0bMSH$%~!@$LIS$$$$$$ACK$1$P$2.5.1$$$$$$8859/1\rMSA$AE${control_id(message)}$fehlt: Größe !F!50 !X26! %b\r"
         "ERR$$OBX%3$207%Application error$E\r\x1c\r").encode("latin-1")
    ]  # fmt: skip
    assert exchange.send().n_held == 1
    ((answer,),) = exchange.messages("last_answer")
    assert answer == "AE fehlt: Größe $50 &  b; OBX 3; 207 Application error"


def test_two_senders_at_once_deliver_each_message_once(exchange: Exchange) -> None:
    for number in range(30):
        exchange.slide(f"S-{number}", n=60)
        exchange.laboratory.sign(f"S-{number}", 1)
    assert at_once(3, exchange.send) == []
    assert len(exchange.receiver.ids) == len(set(exchange.receiver.ids)) == 30


@pytest.mark.slow
@pytest.mark.parametrize("when", ["answered", "recorded"])
def test_a_sender_that_is_killed_loses_nothing_and_repeats_what_was_not_recorded(
    exchange: Exchange, when: When
) -> None:
    for number in range(4):
        exchange.slide(f"S-{number}", n=60)
        exchange.laboratory.sign(f"S-{number}", 1)
    for kill_at in (1, 2) if when == "recorded" else (1, 1):
        send_and_die(exchange.settings, kill_at, when)
    exchange.send()
    assert {state for (state,) in exchange.messages("state")} == {"delivered"}
    assert len(set(exchange.receiver.ids)) == 4
    # messages whose answers were not recorded come again; those that were recorded do not
    repeated = len(exchange.receiver.ids) - 4
    assert repeated == 0 if when == "recorded" else repeated >= 2


def test_without_its_file_nothing_is_lost(exchange: Exchange) -> None:
    exchange.slide()
    settings = exchange.settings.model_copy(update={"exchange_file": None})
    (sent,) = send_results(settings)
    assert "The exchange file (BLOODCELL_EXCHANGE_FILE) does not name it" in sent.trouble
    exchange.laboratory.sign("S-1", 1)
    assert exchange.send().n_delivered == 1
    remove_receiver(exchange.laboratory.database, "lis")
    assert send_results(settings) == []


@pytest.mark.parametrize(
    ("certificate", "told"),
    [("own", ""), ("of another name", "refused"), ("of another authority", "refused")],
)
def test_over_tls_only_the_expected_receiver_gets_a_result(
    exchange: Exchange, tmp_path: Path, certificate: str, told: str
) -> None:
    for folder in ("receiver", "other"):
        (tmp_path / folder).mkdir()
    name = "elsewhere.example.org" if certificate == "of another name" else "localhost"
    authority, other = (make_certificate(tmp_path / folder, (name,)) for folder in ("receiver", "other"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "receiver" / "certificate.pem", tmp_path / "receiver" / "key.pem")
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    with receiving(context) as receiver:
        exchange.receiver = receiver
        trusted = other if certificate == "of another authority" else authority
        exchange.configure("tls = true", 'host = "localhost"', f'ca_file = "{trusted}"')
        sent = exchange.send()
        assert told in sent.trouble
        assert len(receiver.received) == sent.n_delivered == (0 if told else 1)


def test_a_receiver_that_answers_slowly_does_not_make_a_signature_wait(exchange: Exchange) -> None:
    for barcode in ("S-1", "S-2"):
        exchange.slide(barcode)
    exchange.laboratory.sign("S-1", 1)
    reached, go_on = threading.Event(), threading.Event()

    def answer(message: str) -> list[bytes]:
        reached.set()
        go_on.wait(5)
        return [acknowledged(message)]

    exchange.receiver.answer = answer
    sender = threading.Thread(target=exchange.send)
    sender.start()
    assert reached.wait(5)
    began = time.monotonic()
    exchange.laboratory.sign("S-2", 1)
    assert time.monotonic() - began < 0.9  # less than the receiver's second
    go_on.set()
    sender.join()
    exchange.send()
    assert {state for (state,) in exchange.messages("state")} == {"delivered"}


def test_a_receiver_that_closes_each_connection_gets_all_messages_at_once(exchange: Exchange) -> None:
    for number in range(3):
        exchange.slide(f"S-{number}", n=60)
        exchange.laboratory.sign(f"S-{number}", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message), b""]  # an empty answer closes the connection
    assert exchange.send().n_delivered == 3
    assert len(exchange.receiver.ids) == 3
    attempts = exchange.laboratory.rows("SELECT outcome, count(*)::int FROM bloodcell.message_attempts GROUP BY 1")
    assert attempts == [("delivered", 3)]


def test_a_receiver_that_answers_only_the_first_message_of_a_connection_gets_one_for_each(exchange: Exchange) -> None:
    exchange.configure("keep_open = false")
    for number in range(3):
        exchange.slide(f"S-{number}", n=60)
        exchange.laboratory.sign(f"S-{number}", 1)
    assert exchange.send().n_delivered == 3
    assert exchange.receiver.n_connections == 3


def test_an_answer_that_postgres_could_not_hold_is_spelt_out(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message, "AE", "a\\X00\\b \x1b[31m red")]
    assert exchange.send().n_held == 1
    assert exchange.messages("last_answer") == [("AE a\\u0000b \\u001b[31m red",)]


def test_one_receiver_that_is_not_configured_well_does_not_keep_the_others(exchange: Exchange) -> None:
    path = exchange.settings.exchange_file
    assert path is not None
    more = '[receivers.a]\nprotocol = "fhir"\nurl = "http://127.0.0.1:9/"\ntoken_file = "/nowhere/token"\n'
    path.write_text(more + path.read_text())
    send_results(exchange.settings)
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    first, second = send_results(exchange.settings)
    assert (first.needs_correction, "/nowhere" in first.trouble or "token" in first.trouble) == (True, True)
    assert second.n_delivered == 1


def test_a_receiver_that_rejects_everything_does_not_get_the_whole_backlog(exchange: Exchange) -> None:
    for number in range(23):
        exchange.slide(f"S-{number}", n=60)
        exchange.laboratory.sign(f"S-{number}", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message, "AR", "not now")]
    sent = exchange.send()
    assert (sent.n_held, sent.n_left) == (20, 3)
    assert "20 messages in a row were rejected" in sent.trouble


def test_a_sender_that_lost_its_lock_sends_nothing_more_and_forgets_nothing(exchange: Exchange) -> None:
    for barcode in ("S-1", "S-2", "S-3"):
        exchange.slide(barcode, n=60)
        exchange.laboratory.sign(barcode, 1)

    def answer(message: str) -> list[bytes]:
        if len(exchange.receiver.received) == 2:
            with exchange.laboratory.database.begin() as connection:
                connection.exec_driver_sql("RESET ROLE")
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND query LIKE 'SELECT * FROM bloodcell.may_send%%'"
                )
            exchange.wait_until_asked_again()
        return [acknowledged(message)]

    exchange.receiver.answer = answer
    with pytest.raises(DatabaseUnavailableError, match="keeps other senders from lis was lost"):
        exchange.send()
    assert exchange.messages("state") == [("delivered",), ("delivered",), ("waiting",)]
    exchange.send()
    assert len(exchange.receiver.ids) == len(set(exchange.receiver.ids)) == 3


def test_one_question_is_about_several_messages_and_its_answer_holds_for_a_moment(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for barcode in ("S-1", "S-2"):
        exchange.slide(barcode)
        exchange.laboratory.sign(barcode, 1)
    database = exchange.laboratory.database
    first, second = (int(str(message)) for (message,) in exchange.messages("message_id"))
    with outbox.taken_receiver(database, "lis") as permission:
        assert permission is not None
        permission.expect([first, second, second + 1])
        monkeypatch.setattr(outbox, "_ANSWER_HOLDS_S", 60.0)
        assert permission.may_send(first) == "yes"
        decide_on_messages(database, MessageDecision("skip", "by hand", "anna", barcode="S-2"))
        assert permission.may_send(second) == "yes"
        monkeypatch.setattr(outbox, "_ANSWER_HOLDS_S", 0.0)
        permission.expect([second, second + 1])
        assert permission.may_send(second) == permission.may_send(second + 1) == "no"


def test_more_messages_than_are_read_at_once_leave_in_their_order(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_BATCH", 2)
    cells = exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    for version in (2, 4):
        exchange.correct(cells, version)
    for number in range(2, 6):
        exchange.slide(f"S-{number}", n=60)
        exchange.laboratory.sign(f"S-{number}", 1)
    assert exchange.send().n_delivered == 7
    of_first = [message for message in exchange.receiver.received if "|S-1^" in message]
    assert [status_of(message)[0] for message in of_first] == ["F", "C", "C"]
    assert [(each,) for each in sorted(exchange.receiver.ids)] == sorted(exchange.messages("control_id"))
