"""Signed results leave over MLLP: the sender with its database, against a loop that only sends prepared messages.

The receiver is node-hl7-server, which parses each message. Against a receiver that parses nothing, Python's own work on
a message is what counts.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from benchmarks.speed.bare_night import MODEL, NIGHT, add_night
from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.place import Place
from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.exchange.exchange_file import Hl7Receiver, read_exchange_file
from bloodcell.exchange.identities import IdentityKeys
from bloodcell.exchange.oru_message import oru_message
from bloodcell.exchange.outgoing_result import read_outgoing
from bloodcell.exchange.receiver_rows import keep_receivers
from bloodcell.exchange.sending import send_results
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database
from tests.exchange.foreign_receivers import running

SIGNED_RESULTS = "signed_results"


def sending(place: Place) -> Line:
    n = 300 if place.quick else 10_000
    make_results(place, n)
    with running("hl7_server.mjs") as (port, printed):
        threading.Thread(target=printed.read, daemon=True).start()
        settings = configured(place, port)
        bodies = prepared(settings)

        def ours() -> float:
            own = configured(place, port)
            started = time.perf_counter()
            (sent,) = send_results(own)
            if sent.n_delivered != n:
                raise ValueError(f"Expected {n} delivered messages. Received: {sent}")
            return time.perf_counter() - started

        def bare() -> float:
            started = time.perf_counter()
            send_bare(port, bodies)
            return time.perf_counter() - started

        of_sender, of_loop = alternately(1 if place.quick else 3, ours, bare)
    per_s = [n / each for each in of_sender], [n / each for each in of_loop]
    return Line(
        f"send {n:,} signed results over MLLP",
        "a loop that sends the prepared messages and waits for each answer",
        ratio(of_loop, of_sender),
        f"messages/s: {shown(per_s[0], digits=0)}; bare loop: {shown(per_s[1], digits=0)}",
        at_least=0.5,
    )


def make_results(place: Place, n: int) -> None:
    """Makes the database that is copied: signed results of one slide each, with a message for the receiver."""
    settings, run = place.template(SIGNED_RESULTS), {"run_id": uuid.uuid4()}
    rules = read_rules(None)
    with connect(str(settings.plain_database_url)).begin() as connection:
        add_night(connection, run["run_id"])
        connection.execute(
            tables.laboratory_rules.insert().values(
                rules_digest=rules.digest, version=rules.version, document=rules.document
            )
        )
        connection.execute(tables.receiver.insert().values(name="lis", protocol="hl7", gets_unsigned=False))
        values = {"n": n, "night": NIGHT, "model": MODEL, "rules": rules.digest, **run}
        for statement in (
            "INSERT INTO bloodcell.slide (barcode, night, patient_key, order_id, record_state, run_id) "
            "SELECT 'S' || i, :night, 'p' || i, 'O' || i, 'read', :run_id FROM generate_series(1, :n) i",
            "INSERT INTO bloodcell.slide_report (slide_id, model_id, number, n_cells, n_leucocytes, "
            "n_other_leucocytes, n_unverified, n_blasts, n_unclassified, n_contested, n_labelled, n_labels, "
            "is_sufficient, "
            "nrbc_per_100_wbc, nrbc_lower, nrbc_upper, n_compared, n_agree, rules_digest, calls_digest, "
            "labels_digest, run_id) "
            "SELECT slide_id, :model, 1, 120, 118, 0, 0, 0, 2, 0, 0, 0, true, 0, 0, 3.1, 0, 0, :rules, 'c', 'l', "
            ":run_id FROM bloodcell.slide",
            'INSERT INTO bloodcell.differential (report_id, "class", n_cells, n_labelled, n_unverified, percentage, '
            "lower, upper, bound_lower, bound_upper) "
            "SELECT report_id, line, 20, 0, 0, 16.9, 10.7, 25, 16.6, 18.3 FROM bloodcell.slide_report, "
            "unnest('{neutrophil,eosinophil,basophil,lymphocyte,monocyte,ig,erythroblast}'::text[]) line",
            "INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, "
            "digest, signed_by) SELECT slide_id, 1, 'final', report_id, '{signature}', '{}', '{}', 'd', 'anna' "
            "FROM bloodcell.slide_report",
        ):
            connection.execute(sa.text(statement), values)
        connection.execute(sa.text("ANALYZE"))


def configured(place: Place, port: int) -> Settings:
    """Returns settings with a fresh copy of the database, and an exchange file with the receiver."""
    path = Path(place.folder) / f"exchange-{port}.toml"
    path.write_text(
        f'[receivers.lis]\nprotocol = "hl7"\nhost = "127.0.0.1"\nport = {port}\ntls = false\napplication = "L"\n'
        'facility = "H"\nkeep_open = false'
    )
    settings = place.fresh(SIGNED_RESULTS).model_copy(update={"exchange_file": path})
    found = read_exchange_file(path)
    open_database(settings).transact(lambda connection: keep_receivers(connection, found))
    return settings


def prepared(settings: Settings) -> list[bytes]:
    """Returns all messages, as the sender makes them."""
    exchange = read_exchange_file(settings.exchange_file)
    to = exchange.receivers["lis"]
    if not isinstance(to, Hl7Receiver):
        raise TypeError(to)
    with open_database(settings).connect() as connection:
        waiting = connection.scalars(sa.text("SELECT message_id FROM bloodcell.outgoing_message ORDER BY 1")).all()
        results = read_outgoing(connection, waiting, IdentityKeys.of(settings))
    return [oru_message(each, to, exchange, datetime.now(UTC)) for each in results]


def send_bare(port: int, bodies: list[bytes]) -> None:
    for body in bodies:  # the receiver answers only the first message of a connection
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"\x0b" + body + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                answer += connection.recv(65536)
