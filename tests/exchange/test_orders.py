"""Orders arrive, and what they say of a patient leaves with the results, and nowhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hl7apy.parser import parse_message

from bloodcell.errors import ConfigurationError
from bloodcell.exchange.exchange_file import ExchangeFile, OrderSource, Sender, read_exchange_file
from bloodcell.exchange.hl7_text import read_message
from bloodcell.exchange.identities import IdentityKeys, remove_expired
from bloodcell.exchange.message_actions import MessageDecision, decide_on_messages
from bloodcell.exchange.order_intake import take_order
from bloodcell.exchange.order_listener import listen
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.exchange.conftest import Exchange
from tests.exchange.hl7_receiver import acknowledged

BORN, NAME, NUMBER = "19860312", "MÜLLER^ÄNNE", "4711-0815"
PATIENT = f"PID|1||{NUMBER}^^^HOSPITAL^MR||{NAME}||{BORN}|F"


def oml(
    control: str,
    *,
    barcode: str = "S-1",
    order: str = "O-1",
    action: str = "NW",
    patient: str = PATIENT,
    wbc: str = "7.5|10*9/L",
    code: str = "6690-2",
) -> bytes:
    """Returns an order for one specimen."""
    lines = [
        f"MSH|^~\\&|LIS|HOSPITAL|bloodcell|laboratory|20260314||OML^O21^OML_O21|{control}|P|2.5.1||||||UNICODE UTF-8",
        patient,
        f"ORC|{action}|{order}",
        f"OBR|1|{order}||69738-3^Differential^LN",
    ]
    if wbc:
        lines.append(f"OBX|1|NM|{code}^Leukocytes^LN||{wbc}")
    return "".join(f"{line}\r" for line in [*lines, f"SPM|1|{barcode}||BLD^Blood^HL70487"]).encode()


Take = Callable[[bytes], tuple[str, str]]


@pytest.fixture
def take(database: Database, settings: Settings) -> Take:
    """Stores a message; returns the code of the answer, and what it says."""

    def taken(body: bytes) -> tuple[str, str]:
        answer = take_order(database, IdentityKeys.of(settings), Sender(), body)
        assert parse_message(answer.decode(), find_groups=False).msh.msh_9.value.startswith("ORL^O22")
        message = read_message(answer)
        acknowledged, error = message.first("MSA"), message.first("ERR")
        assert acknowledged is not None
        return acknowledged.field(1), error.field(8) if error else ""

    return taken


def orders(database: Database, columns: str = "barcode, order_id, action, is_conflict") -> list[tuple[object, ...]]:
    with database.connect() as connection:
        statement = sa.text(f"SELECT {columns} FROM bloodcell.order_history ORDER BY lab_order_id")
        return [tuple(row) for row in connection.execute(statement)]


def test_an_order_gives_the_count_its_facts_and_the_result_its_patient(exchange: Exchange, take: Take) -> None:
    assert take(oml("m1")) == ("AA", "")
    exchange.slide(order_id=None, patient_key=None)
    found = exchange.laboratory.rows(
        "SELECT age_months, sex, wbc_received FROM bloodcell.result_version WHERE barcode = 'S-1'"
    )
    assert found == [(pytest.approx(12 * 40, abs=24), "female", 7.5)]
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    (message,) = exchange.receiver.received
    assert PATIENT in message.split("\r")
    assert "\rOBR|1|O-1|S-1^" in message
    assert "|7.50|10*9/L^" in message  # all are neutrophils


def test_an_order_that_comes_after_the_count_makes_a_version(exchange: Exchange, take: Take) -> None:
    exchange.slide()
    take(oml("m1"))
    exchange.laboratory.count()
    (found,) = exchange.laboratory.rows("SELECT why FROM bloodcell.result_version WHERE version = 2")
    assert found == ("slide.json or the order gives another age, sex or leucocyte count",)


def test_what_slide_json_says_counts_more_than_the_order(exchange: Exchange, take: Take) -> None:
    take(oml("m1"))
    exchange.slide(age_months=300, sex="male", wbc_10e9_per_l=5.0, wbc_is_corrected=True)
    found = exchange.laboratory.rows(
        "SELECT age_months, sex, wbc_received, wbc_is_corrected FROM bloodcell.result_version"
    )
    assert found == [(300, "male", 5.0, True)]


def test_an_order_twice_is_stored_once_and_answered_twice(database: Database, take: Take) -> None:
    assert [take(oml("m1")), take(oml("m1"))] == [("AA", ""), ("AA", "")]
    assert orders(database) == [("S-1", "O-1", "new", False)]


def test_an_order_is_changed_and_cancelled(exchange: Exchange, take: Take) -> None:
    take(oml("m1"))
    assert take(oml("m2", action="XO", wbc="8200|/uL"))[0] == "AA"
    exchange.slide()
    versions = "SELECT wbc_received, sex FROM bloodcell.result_version ORDER BY version"
    assert exchange.laboratory.rows(versions) == [(8.2, "female")]
    assert take(oml("m3", action="CA"))[0] == "AA"
    exchange.laboratory.count()
    assert exchange.laboratory.rows(versions) == [(8.2, "female"), (None, None)]


@pytest.mark.parametrize("action", ["XO", "CA"])
def test_an_unknown_order_can_be_neither_changed_nor_cancelled(database: Database, take: Take, action: str) -> None:
    assert take(oml("m1", action=action)) == ("AE", "Order O-1 for specimen S-1 is not known.")
    assert orders(database) == []


def test_an_order_for_another_patient_with_the_same_barcode_stops_the_result(exchange: Exchange, take: Take) -> None:
    exchange.slide()
    take(oml("m1"))
    other = PATIENT.replace(NUMBER, "9999")
    told = (
        "Specimen S-1 has an order for another patient. Cancel the order that is wrong, then send the other one again."
    )
    assert take(oml("m2", order="O-2", patient=other)) == ("AE", told)
    assert take(oml("m2", order="O-2", patient=other)) == ("AE", told)  # again: the same answer
    assert orders(exchange.laboratory.database) == [("S-1", "O-1", "new", False), ("S-1", "O-2", "new", True)]
    exchange.laboratory.count()
    exchange.laboratory.sign("S-1", 2)
    assert exchange.send().n_held == 1
    assert exchange.receiver.received == []
    (answer,) = exchange.messages("last_answer")
    assert str(answer[0]).startswith("Not sent: orders for two patients have the slide's barcode")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"nonsense", "begins with MSH"),
        (oml("m1").replace(b"OML^O21^OML_O21", b"ADT^A01^ADT_A01"), "Expected OML^O21 in MSH-9. Received: 'ADT A01"),
        (oml(""), "Expected a control id in MSH-10"),
        (oml("m1", barcode=""), "Expected the barcode of a specimen in SPM-2 or SAC-3"),
        (oml("m1", barcode="S-\u202e1"), "visible characters in SPM-2"),
        (oml("m1", order=""), "visible characters in ORC-2"),
        (oml("m1", action="ZZ"), "Expected one of NW, XO, RP, CA, OC in ORC-1. Received: 'ZZ'"),
        (oml("m1", wbc="7.5|mg"), "Expected a leucocyte count in 10*9/L in OBX-6. Received: 'mg'"),
        (oml("m1", wbc="many|10*9/L"), "Expected a number in OBX-5"),
        (oml("m1", wbc="7500|10*9/L"), "0.01 to 1000 x 10^9 per litre. Received: 7500"),
        (oml("m1", wbc="nan|10*9/L"), "0.01 to 1000 x 10^9 per litre"),
        (oml("m1", patient=PATIENT.replace(BORN, "18060312")), "0 to 130 years before the specimen"),
        (oml("m1", patient=PATIENT.replace(BORN, "20991301")), "Expected a time"),
        (oml("m1").replace("Ü".encode(), b"\xfc"), "not in UNICODE UTF-8, which MSH-18 names"),
        (oml("m1").replace(b"UNICODE UTF-8", b"KLINGON"), "Expected a character set"),
        (b"MSH|^~\\&|LIS|H|b|l|2026||OML^O21|m1|P|2.5.1\r", "Expected 1 to 200 orders (ORC). Received 0"),
    ],
)
def test_what_is_no_order_is_refused_with_its_reason(database: Database, take: Take, body: bytes, told: str) -> None:
    code, said = take(body)
    assert (code, orders(database)) == ("AE", [])
    assert told in said
    assert "MÜLLER" not in said


def test_a_message_with_several_orders_and_other_delimiters_is_read(exchange: Exchange, take: Take) -> None:
    text = (
        "MSH$%~!@$LIS$HOSPITAL$$$20260314$$OML%O21$m9$P$2.5.1\r"
        "PID$1$$77%%%H$$O'BRIEN|X%A!F!B$$2024$M\r"
        "ORC$NW$O-1\rOBR$1$O-1$$x$$$20260314\rSPM$1$S-1@HOSPITAL\r"
        "ORC$NW$O-2\rOBR$1$O-2$$x$$$20260314\rSAC$$$S-2\r"
    )
    assert take(text.encode("latin-1")) == ("AA", "")
    found = orders(exchange.laboratory.database, "barcode, order_id, age_months, sex, wbc_10e9_per_l")
    assert found == [("S-1", "O-1", 26, "male", None), ("S-2", "O-2", 26, "male", None)]
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    (patient,) = exchange.receiver.segments("PID")
    assert patient[3:6] == ["77^^^H", "", "O'BRIEN\\F\\X^A\\F\\B"]
    assert parse_message(exchange.receiver.received[0], find_groups=True).validate()


def test_the_database_holds_no_identity_in_the_clear_and_none_after_its_lifetime(
    exchange: Exchange, take: Take, settings: Settings, tmp_path: Path
) -> None:
    take(oml("m1"))
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    database, keys = exchange.laboratory.database, IdentityKeys.of(settings)
    assert traces(database, settings) == []
    assert exchange.laboratory.rows("SELECT count(*) FROM bloodcell_identity.patient_identity") == [(1,)]
    (token,) = exchange.laboratory.rows("SELECT token FROM bloodcell_identity.patient_identity")
    assert [each.stat().st_mode & 0o777 for each in settings.identity_keys.iterdir()] == [0o600, 0o600]

    with database.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE bloodcell_owner")
        connection.exec_driver_sql("UPDATE bloodcell_identity.patient_identity SET expires_at = now()")
    with database.begin() as connection:
        assert remove_expired(connection, keys) == 1
    assert exchange.laboratory.rows("SELECT count(*) FROM bloodcell_identity.patient_identity") == [(0,)]
    # the key goes, too, so that a backup with the token gives nothing back
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert keys.open(today, bytes(token[0])) is not None  # type: ignore[call-overload]
    assert keys.remove_expired(datetime.now(UTC) + timedelta(days=settings.keep_identities_days + 2)) == 1
    assert keys.open(today, bytes(token[0])) is None  # type: ignore[call-overload]
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE bloodcell.outgoing_message SET state = 'waiting'")
    exchange.send()
    assert exchange.receiver.segments("PID")[0][5] == "p-17^^^^^^S"


def traces(database: Database, settings: Settings) -> list[str]:
    """Returns where a patient's name, number or date of birth is found: in the database, or in a file of the data."""
    sought = [NAME.split("^")[0], NUMBER, BORN, "1986-03-12"]
    with database.connect() as connection:
        connection.exec_driver_sql("SET ROLE bloodcell_owner")
        named = sa.text(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname LIKE 'bloodcell%' ORDER BY 1"
        )
        found = []
        for table in connection.scalars(named).all():
            text = "\n".join(connection.scalars(sa.text(f"SELECT t::text FROM {table} t")))
            found += [f"{table}: {each}" for each in sought if each in text]
    for path in settings.data_dir.rglob("*"):
        if path.is_file():
            found += [f"{path}: {each}" for each in sought if each.encode() in path.read_bytes()]
    return found


@contextmanager
def listening(settings: Settings, source: OrderSource) -> Iterator[int]:
    """Receives orders in a thread, until the process ends; yields the port."""
    ready, port = threading.Event(), [0]

    def told(found: int) -> None:
        port[0] = found
        ready.set()

    exchange = ExchangeFile(orders=source)
    threading.Thread(target=listen, args=(settings, exchange, told), daemon=True).start()
    assert ready.wait(10)
    yield port[0]


def said(connection: socket.socket, body: bytes) -> str:
    connection.sendall(b"\x0b" + body + b"\x1c\r")
    answer = b""
    while b"\x1c\r" not in answer:
        received = connection.recv(4096)
        if not received:
            break
        answer += received
    return answer.decode()


def test_orders_come_one_after_the_other_over_one_connection(database: Database, settings: Settings) -> None:
    with listening(settings, OrderSource(port=0)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            assert "MSA|AA|m1" in said(connection, oml("m1"))
            assert "MSA|AE|m2" in said(connection, oml("m2", barcode=""))
            assert "MSA|AA|m3" in said(connection, oml("m3", barcode="S-2"))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"\x0b" + b"x" * (1024 * 1024 + 100))
            assert connection.recv(10) == b""  # too long: closed without an answer
    assert [row[0] for row in orders(database)] == ["S-1", "S-2"]


def test_only_the_addresses_of_senders_are_served(database: Database, settings: Settings) -> None:
    with listening(settings, OrderSource(port=0, addresses=("127.0.0.2",))) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            assert connection.recv(10) == b""
        with socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.2", 0)) as connection:
            assert "MSA|AA|m1" in said(connection, oml("m1"))


def test_an_address_that_others_reach_needs_to_know_its_senders(tmp_path: Path) -> None:
    path = tmp_path / "exchange.toml"
    path.write_text('[orders]\nhost = "0.0.0.0"')
    with pytest.raises(ConfigurationError, match="everybody who reaches the port could order"):
        read_exchange_file(path)
    path.write_text('[orders]\nhost = "0.0.0.0"\naddresses = ["10.0.0.7"]')
    assert read_exchange_file(path).orders is not None


def withdraw_all(exchange: Exchange) -> None:
    with exchange.laboratory.database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
            "SELECT slide_id, 'withdraw', 'wrong tube', 'anna', run_id FROM bloodcell.slide WHERE withdrawn_at IS NULL"
        )


def test_a_withdrawal_names_the_patient_and_the_order_that_the_result_was_sent_for(
    exchange: Exchange, take: Take
) -> None:
    take(oml("m1"))
    exchange.slide(order_id=None, patient_key=None)
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    take(oml("m2", order="O-2", patient=PATIENT.replace(NUMBER, "9999")))  # whose is the tube?
    withdraw_all(exchange)
    assert exchange.send().n_delivered == 1
    final, withdrawn = exchange.receiver.received
    assert "|X|" in withdrawn
    for message in (final, withdrawn):
        assert PATIENT in message.split("\r")
        assert "\rOBR|1|O-1|S-1^" in message


@pytest.mark.parametrize("wrong", ["O-1", "O-2"])
def test_a_conflict_is_over_when_the_wrong_order_is_cancelled_and_the_right_one_accepted(
    exchange: Exchange, take: Take, wrong: str
) -> None:
    other = PATIENT.replace(NUMBER, "9999")
    take(oml("m1"))
    take(oml("m2", order="O-2", patient=other))
    exchange.slide(order_id=None)
    exchange.laboratory.sign("S-1", 1)
    assert exchange.send().n_held == 1
    take(oml("m3", action="XO", wbc="8|10*9/L"))  # a change of the standing order decides nothing
    assert has_conflict(exchange)
    if wrong == "O-1":
        assert take(oml("m4", action="CA"))[0] == "AA"
        assert has_conflict(exchange)
        assert take(oml("m5", order="O-2", patient=other))[0] == "AA"
    else:
        merged = PATIENT.replace(NUMBER, "7777")  # the cancellation has a number that was merged meanwhile
        assert take(oml("m4", order="O-2", action="CA", patient=merged))[0] == "AA"
    assert not has_conflict(exchange)


def has_conflict(exchange: Exchange) -> bool:
    return bool(exchange.laboratory.rows("SELECT has_conflict FROM bloodcell.slide_facts")[0][0])


def test_the_orders_of_a_tube_add_up_and_a_cancelled_one_takes_nothing_from_the_others(
    exchange: Exchange, take: Take
) -> None:
    take(oml("m1"))
    take(oml("m2", order="O-2", wbc="", patient=PATIENT.rpartition("||")[0]))
    facts = "SELECT order_id, wbc_10e9_per_l, sex FROM bloodcell.slide_facts"
    exchange.slide(order_id=None)
    assert exchange.laboratory.rows(facts) == [("O-2", 7.5, "female")]
    take(oml("m3", order="O-2", action="CA"))
    assert exchange.laboratory.rows(facts) == [("O-1", 7.5, "female")]


def test_where_slide_json_names_the_order_no_other_one_counts(exchange: Exchange, take: Take) -> None:
    take(oml("m1"))
    exchange.slide(order_id="O-9")
    assert exchange.laboratory.rows("SELECT order_id, sex, lab_order_id FROM bloodcell.slide_facts") == [
        ("O-9", None, None)
    ]


def test_an_earlier_result_of_the_patient_is_not_this_specimens(database: Database, take: Take) -> None:
    earlier = b"OBR|1|O-0||x\rOBX|1|NM|6690-2^Leukocytes^LN||2.1|10*9/L\r"
    assert take(oml("m1", wbc="") + PATIENT.encode() + b"\rORC|PR|O-0\r" + earlier)[0] == "AA"
    assert take(oml("m2", order="O-2", wbc="") + earlier)[0] == "AA"
    assert take(oml("m3", order="O-3", wbc="7.5|10*9/L|||||W"))[0] == "AA"  # that was wrong, its sender says
    found = orders(database, "order_id, wbc_10e9_per_l")
    assert found == [("O-1", None), ("O-2", None), ("O-3", None)]


def test_a_control_id_that_is_used_again_for_another_message_loses_no_order(database: Database, take: Take) -> None:
    assert [take(oml("1")), take(oml("1", barcode="S-2")), take(oml("1"))] == [("AA", "")] * 3
    assert [row[0] for row in orders(database)] == ["S-1", "S-2"]


@pytest.mark.parametrize("born", ["12.03.1986", "1986-03-12", "19861399", "19860312+9900"])
def test_a_date_of_birth_is_not_logged(take: Take, caplog: pytest.LogCaptureFixture, born: str) -> None:
    code, told = take(oml("m1", patient=PATIENT.replace(BORN, born)))
    assert (code, told) == ("AE", "Expected a time such as 20260314020300+0100 in PID-7.")
    assert take(f"PID|1||{NUMBER}".encode())[0] == "AE"
    assert born not in caplog.text
    assert NUMBER not in caplog.text


def test_a_child_that_was_born_today_has_an_age(database: Database, take: Take) -> None:
    body = oml("m1", patient=PATIENT.replace(BORN, "20260314"))
    assert take(body.replace(b"||BLD^Blood^HL70487", b"||BLD" + b"|" * 13 + b"20260313233000+0000"))[0] == "AA"
    assert orders(database, "age_months, collected_at::text LIKE '2026-03-13 23:30%'") == [(0, True)]


def test_an_unreadable_message_is_answered_under_its_name(database: Database, settings: Settings) -> None:
    body = oml("m77").replace(b"UNICODE UTF-8", b"KLINGON")
    answer = take_order(database, IdentityKeys.of(settings), Sender(), body).decode()
    assert "\rMSA|AE|m77\r" in answer


def test_an_absolute_count_that_is_no_more_is_deleted_at_the_receiver(exchange: Exchange, take: Take) -> None:
    take(oml("m1"))
    exchange.slide(order_id=None)
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    take(oml("m2", action="XO", wbc=""))
    exchange.laboratory.count()
    exchange.laboratory.sign("S-1", 3, "corrected", "the leucocyte count was another tube's")
    exchange.send()
    of_absolute = [f for f in exchange.receiver.segments("OBX") if f[3].startswith("NEUTROPHIL_ABSOLUTE")]
    assert [(f[5], f[11]) for f in of_absolute] == [("", "D")]
    assert parse_message(exchange.receiver.received[-1], find_groups=True).validate()


def test_a_correction_waits_if_the_patient_of_the_earlier_message_is_not_known_any_more(
    exchange: Exchange, take: Take
) -> None:
    take(oml("m1"))
    cells = exchange.slide(order_id=None)
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    with exchange.laboratory.database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bloodcell_identity.patient_identity")
    exchange.laboratory.label(cells[:1], ["lymphocyte"])
    exchange.laboratory.count()
    exchange.laboratory.sign("S-1", 3, "corrected", "one cell was wrong")
    assert exchange.send().n_held == 1
    ((answer,),) = exchange.laboratory.rows("SELECT last_answer FROM bloodcell.message WHERE state = 'held'")
    assert str(answer).startswith("Not sent: the receiver has the slide under a patient whom bloodcell does not know")
    take(oml("m2"))  # the laboratory's system sends the order again
    decide_on_messages(exchange.laboratory.database, MessageDecision("replay", "the order is here again", "anna"))
    assert exchange.send().n_delivered == 1
    assert PATIENT in exchange.receiver.received[-1].split("\r")


def test_what_a_receiver_repeats_of_a_patient_is_not_kept(exchange: Exchange, take: Take) -> None:
    take(oml("m1"))
    exchange.slide(order_id=None)
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message, "AE", f"patient {NUMBER} Müller unknown")]
    exchange.send()
    assert exchange.messages("last_answer") == [("AE patient … … unknown",)]
    assert traces(exchange.laboratory.database, exchange.settings) == []


def test_a_time_without_a_zone_is_in_the_zone_of_the_message(database: Database, take: Take) -> None:
    body = oml("m1").replace(b"|20260314||OML", b"|20260314080000+0100||OML")
    assert take(body.replace(b"||BLD^Blood^HL70487", b"||BLD" + b"|" * 13 + b"20260314023000"))[0] == "AA"
    assert orders(database, "collected_at AT TIME ZONE 'UTC'") == [(datetime(2026, 3, 14, 1, 30),)]  # noqa: DTZ001


def test_a_receiver_may_get_the_pseudonym_only(exchange: Exchange, take: Take) -> None:
    exchange.configure("gets_identity = false")
    take(oml("m1"))
    exchange.slide(order_id=None)
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    assert exchange.receiver.segments("PID")[0][5] == "p-17^^^^^^S"
    assert "\rOBR|1|O-1|" in exchange.receiver.received[0]


@pytest.mark.parametrize("body", [oml("m1", wbc="DOE^JANE|10*9/L"), oml("m1", action="DOE^JANE")])
def test_a_name_in_a_wrong_field_is_told_to_its_sender_and_not_logged(
    take: Take, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    code, told = take(body)
    assert (code, "DOE" in told) == ("AE", True)
    assert "An order was refused: Expected" in caplog.text
    assert "DOE" not in caplog.text
