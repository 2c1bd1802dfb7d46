"""What becomes of results and orders when receivers, networks and senders misbehave; writes EXCHANGE_FAULTS.md.

    python -m benchmarks.acceptance.exchange_faults WORK

Each fault has a laboratory of its own, with a slide that is signed as final and then corrected, or with an order. The
table says what the receiver got, in which order and under how many control ids, and what waits with which reason. Exit
status 1 if a version arrived twice under two ids, out of order, or is neither delivered nor waiting with a reason.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from bloodcell.exchange.exchange_file import Sender
from bloodcell.exchange.identities import IdentityKeys
from bloodcell.exchange.message_actions import MessageDecision, decide_on_messages
from bloodcell.exchange.order_intake import take_order
from bloodcell.presentation.markdown import Markdown, markdown_table
from bloodcell.quality import control_night
from bloodcell.quality_rules import DEFAULT_QUALITY
from bloodcell.results.overriding import override_check
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import upgrade
from tests.exchange.conftest import Exchange
from tests.exchange.hl7_receiver import acknowledged, receiving, status_of
from tests.exchange.killed_sender import When, send_and_die
from tests.exchange.test_orders import PATIENT, oml
from tests.laboratory import SIGNER, Laboratory

OUT = Path(__file__).parent / "EXCHANGE_FAULTS.md"


@dataclass(frozen=True)
class Fault:
    """A fault: its name, what causes it, and whether nothing can be signed then; the slide is final when it begins."""

    name: str
    cause: Callable[[Exchange], None]
    forbids_signing: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    work: Path = parser.parse_args().work.resolve()
    rows, n_bad = [["fault", "received, in this order", "control ids", "state of the messages", ""]], 0
    with postgres(work) as server:
        for number, fault in enumerate(FAULTS):
            with laboratory(work, server, f"fault_{number}") as exchange:
                cells = exchange.slide()
                exchange.laboratory.sign("S-1", 1)
                fault.cause(exchange)
                exchange.laboratory.label(cells[:1], ["lymphocyte"])
                exchange.laboratory.count()
                with suppress(sa.exc.DBAPIError) if fault.forbids_signing else nullcontext():
                    exchange.laboratory.sign("S-1", 3, "corrected", "one cell was wrong")
                exchange.receiver.answer = lambda message: [acknowledged(message)]
                exchange.at_once()
                exchange.send()
                row, is_good = told(fault.name, exchange)
                n_bad += not is_good
                rows.append(row)
                print(" | ".join(row), flush=True)
        orders = [["order", "answer", "stored orders"]]
        with laboratory(work, server, "orders") as exchange:
            for name, bodies in ORDERS.items():
                answers = [answered(exchange, body) for body in bodies]
                orders.append([name, ", ".join(answers), stored(exchange)])
                print(" | ".join(orders[-1]), flush=True)
    head = f"Written by `python -m benchmarks.acceptance.exchange_faults` on {datetime.now(UTC):%Y-%m-%d}. {WHAT}"
    tables = "\n\n".join(table(each) for each in (rows, orders))
    OUT.write_text(f"# What becomes of messages when something goes wrong\n\n{head}\n\n{tables}\n")
    return int(n_bad > 0)


WHAT = (
    "A slide is signed as final (F), then the fault happens; it is signed as corrected (C), the receiver answers "
    "again, and everything that may be sent is sent."
)


def table(rows: list[list[str]]) -> str:
    head, *others = ([Markdown(cell) for cell in row] for row in rows)
    return markdown_table(head, others)


def told(name: str, exchange: Exchange) -> tuple[list[str], bool]:
    """Returns the row of a fault, and whether nothing was lost, doubled or out of order."""
    statuses = [status_of(message)[0] for message in exchange.receiver.received]
    ids = exchange.receiver.ids
    first = list(dict.fromkeys(zip(ids, statuses, strict=True)))
    messages = exchange.messages(
        "result_state", "state", "CASE WHEN waits_for_quality THEN 'held by the quality control' ELSE last_answer END"
    )
    settled = all(state in ("delivered", "skipped") or answer or state == "waiting" for _, state, answer in messages)
    order = [status for _, status in first]
    is_good = settled and len(first) == len(set(order)) and order == sorted(order, key="FC".index)
    shown = "; ".join(
        f"{of} {state}" + (f" ({answer})" if answer and state != "delivered" else "") for of, state, answer in messages
    )
    return [
        name,
        " ".join(statuses) or "nothing",
        str(len(set(ids))),
        shown,
        "as it should" if is_good else "**WRONG**",
    ], is_good


def rejecting(code: str, text: str) -> Callable[[Exchange], None]:
    def cause(exchange: Exchange) -> None:
        exchange.receiver.answer = lambda message: [acknowledged(message, code, text)]
        exchange.send()

    return cause


def answering(answers: Callable[[str], list[bytes]]) -> Callable[[Exchange], None]:
    def cause(exchange: Exchange) -> None:
        exchange.receiver.answer = answers
        exchange.send()

    return cause


def away(exchange: Exchange) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port, exchange.receiver.port = exchange.receiver.port, taken.getsockname()[1]
        exchange.configure()
        exchange.send()
    exchange.receiver.port = port
    exchange.configure()


def rejected_then(action: str) -> Callable[[Exchange], None]:
    def cause(exchange: Exchange) -> None:
        rejecting("AE", "unknown order")(exchange)
        decision = MessageDecision("replay" if action == "replay" else "skip", "decided", "anna")
        decide_on_messages(exchange.laboratory.database, decision)

    return cause


def killed(when: When) -> Callable[[Exchange], None]:
    return lambda exchange: send_and_die(exchange.settings, 1, when)


def two_senders(exchange: Exchange) -> None:
    from tests.laboratory import at_once

    at_once(3, exchange.send)


def clock_back(exchange: Exchange) -> None:
    """The database's clock was an hour fast when the message was made and tried."""
    exchange.receiver.answer = lambda message: []
    exchange.send()
    with exchange.laboratory.database.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE bloodcell_owner")
        connection.exec_driver_sql("UPDATE bloodcell.outgoing_message SET made_at = now() + interval '1 hour'")


def control_fails(exchange: Exchange) -> None:
    """A control slide of the same analyser is off target at night, and nobody is there; the sender comes by twice."""
    laboratory, settings = exchange.laboratory, exchange.settings
    slide = laboratory.slide("QC-N-1")
    laboratory.call(laboratory.cells(slide, ["SNE"] * 120), ["lymphocyte"] * 120)
    file = settings.data_dir / "quality.toml"
    file.write_text(DEFAULT_QUALITY.read_text() + CONTROL)
    control_night(settings.model_copy(update={"quality_file": file}), laboratory.night)
    exchange.send()
    exchange.send()


def control_overridden(exchange: Exchange) -> None:
    """The same, and in the morning a named person overrides it."""
    control_fails(exchange)
    check = int(str(exchange.laboratory.rows("SELECT check_id FROM bloodcell.failed_check")[0][0]))
    url = sa.make_url(exchange.settings.plain_database_url or "").set(username=SIGNER)
    personal = exchange.settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    override_check(personal, check, "The tube of the control was clotted.")


CONTROL = """
[[control]]
name = "normal blood"
barcode = "QC-N-*"
[control.percent]
neutrophil = 60.0
"""

FAULTS = (
    Fault("none", lambda exchange: None),
    Fault("the receiver is away", away),
    Fault("it answers AE", rejecting("AE", "unknown order")),
    Fault("it answers AR", rejecting("AR", "not now")),
    Fault("it answers AE, and a person has it sent again", rejected_then("replay")),
    Fault("it answers AE, and a person skips it", rejected_then("skip")),
    Fault("it answers nothing and closes", answering(lambda m: [])),
    Fault("it answers half", answering(lambda m: [acknowledged(m)[:-2]])),
    Fault("it answers twice", answering(lambda m: [acknowledged(m), acknowledged(m)])),
    Fault("it answers with another MSH-10", answering(lambda m: [acknowledged(m, of="another")])),
    Fault("it answers nonsense", answering(lambda m: [b"\x0bnonsense\x1c\r"])),
    Fault("it answers without end", answering(lambda m: [b"\x0b" + b"x" * 70_000])),
    Fault("the sender is killed before it records the answer", killed("answered")),
    Fault("the sender is killed after it records the answer", killed("recorded")),
    Fault("three senders at once", two_senders),
    Fault("the clock was an hour fast", clock_back),
    Fault("a control fails at 02:00, and nobody is there", control_fails, forbids_signing=True),
    Fault("the same, and a person overrides it in the morning", control_overridden),
)

OTHER = PATIENT.replace("4711-0815", "9999")
ORDERS = {
    "a new one": [oml("m1")],
    "the same message again": [oml("m1")],
    "changed": [oml("m2", action="XO", wbc="8.2|10*9/L")],
    "for another patient with the same barcode": [oml("m3", order="O-2", patient=OTHER)],
    "cancelled": [oml("m4", action="CA")],
    "a change of an unknown one": [oml("m5", order="O-9", action="XO")],
    "without a barcode": [oml("m6", barcode="")],
    "not HL7": [b"nonsense"],
}


def answered(exchange: Exchange, body: bytes) -> str:
    keys = IdentityKeys.of(exchange.settings)
    answer = take_order(exchange.laboratory.database, keys, Sender(), body).decode()
    lines = [line.split("|") for line in answer.split("\r")]
    text = next((line[8] for line in lines if line[0] == "ERR"), "")
    return f"{next(line[1] for line in lines if line[0] == 'MSA')} {text}".strip()


def stored(exchange: Exchange) -> str:
    rows = exchange.laboratory.rows("SELECT action, is_conflict FROM bloodcell.order_history ORDER BY lab_order_id")
    return ", ".join(f"{action}{' (conflict)' if conflict else ''}" for action, conflict in rows)


@contextmanager
def postgres(work: Path) -> Iterator[EmbeddedPostgres]:
    server = embedded_database(Settings(data_dir=work / "server"))
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def laboratory(work: Path, server: EmbeddedPostgres, name: str) -> Iterator[Exchange]:
    """A laboratory with a database of its own, whose results go to a receiver."""
    engine = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0")
    url = server.url(name)
    upgrade(url)
    settings = Settings(data_dir=work / name, database_url=url)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with receiving() as receiver:
        made = Laboratory(open_database(settings))
        made.model()
        exchange = Exchange(made, settings, receiver)
        exchange.configure()
        yield exchange


if __name__ == "__main__":
    sys.exit(main())
