"""Orders arrive and results leave with compose.exchange.yaml and compose.rules.yaml, each service on its own host."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bloodcell.differential.laboratory_rules import DEFAULT_RULES
from bloodcell.exchange.mllp import END, framed
from bloodcell.storage.database import open_database
from bloodcell.storage.migrations import upgrade
from tests.exchange.hl7_receiver import Receiver, receiving
from tests.exchange.test_orders import PATIENT, oml
from tests.fleet.fleet import USER, Fleet
from tests.fleet.hosts import can_make_hosts
from tests.laboratory import Laboratory
from tests.review.openldap import certificates

pytestmark = [
    pytest.mark.skipif(not can_make_hosts(), reason="hosts are made of namespaces: root and iproute2 are needed"),
    pytest.mark.timeout(600),
]
PLACED = {"server": ("postgres",), "front": ("orders",), "box": ("worker",)}
FILE = """
[receivers.lis]
protocol = "hl7"
host = "{address}"
port = {port}
ca_file = "/etc/bloodcell/receivers/ca.pem"
application = "LIS"
facility = "HOSPITAL"
gets_unsigned = true

[orders]
host = "0.0.0.0"
certificate_file = "/etc/bloodcell/orders/server.pem"
key_file = "/etc/bloodcell/orders/server.key"
client_ca_file = "/etc/bloodcell/orders/senders.pem"
"""


@dataclass
class Site:
    """A fleet with an exchange file, and the system that its results go to."""

    fleet: Fleet
    receiver: Receiver
    folder: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    files = folder / "exchange"
    for part in (files / "receivers", files / "orders", folder / "lis"):
        part.mkdir(parents=True)
    for path in (folder, files):
        path.chmod(0o755)
    (files / "exchange.toml").touch()
    rules = folder / "rules.toml"
    rules.write_text(DEFAULT_RULES.read_text().replace('version = "', 'version = "our own '))
    values = {"BLOODCELL_EXCHANGE": str(files), "BLOODCELL_RULES": str(rules)}
    values |= {f"BLOODCELL_{what}": str(folder) for what in ("DROPS", "LABELS", "WEIGHTS")}
    fleet = Fleet(
        folder / "made",
        PLACED,
        values,
        shares=("store", "logs", "identity-keys"),
        overlays=("compose.exchange.yaml", "compose.rules.yaml"),
        mark="exchange",
    )
    lis = folder / "lis"
    certificates(files / "orders", ("front",))
    certificates(lis, (fleet.network.own_address,))
    (files / "orders" / "ca.pem").rename(folder / "front.pem")
    shutil.copy(lis / "ca.pem", files / "orders" / "senders.pem")
    shutil.copy(lis / "ca.pem", files / "receivers")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lis / "server.pem", lis / "server.key")
    for path in files.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o640)
        os.chown(path, 0, USER)
    with fleet, receiving(context, fleet.network.own_address) as receiver:
        (files / "exchange.toml").write_text(FILE.format(address=fleet.network.own_address, port=receiver.port))
        fleet.start_postgres()
        upgrade(str(fleet.settings().plain_database_url))
        fleet.start("orders")
        fleet.wait_for("orders")
        yield Site(fleet, receiver, folder)


def order(site: Site, *, certificate: Path | None) -> bytes:
    """Sends an order, and returns what is answered; nothing if the connection is closed."""
    context = ssl.create_default_context(cafile=site.folder / "front.pem")
    if certificate:
        context.load_cert_chain(certificate / "server.pem", certificate / "server.key")
    address = (site.fleet.network.address("front"), 2576)
    received = b""
    with (
        suppress(ssl.SSLError, ConnectionError),  # with TLS 1.3, the client learns only now that it was refused
        socket.create_connection(address, timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="front") as connection,
    ):
        connection.sendall(framed(oml("m1")))
        while END not in received and (more := connection.recv(4096)):
            received += more
    return received


def test_an_order_gives_the_result_that_leaves_its_patient(site: Site) -> None:
    assert order(site, certificate=None) == b""
    assert b"MSA|AA|m1" in order(site, certificate=site.folder / "lis")

    site.fleet.run("worker", "sh", "-c", "bloodcell exchange send || test $? = 3")  # makes the receiver known
    laboratory = Laboratory(open_database(site.fleet.settings()))
    laboratory.model()
    slide = laboratory.slide("S-1", order_id=None, patient_key=None)
    cells = laboratory.cells(slide, ["SNE"] * 120)
    laboratory.call(cells, ["neutrophil"] * 120)
    laboratory.count(slide)
    site.fleet.run("worker", "bloodcell", "exchange", "send")

    (message,) = site.receiver.received
    assert PATIENT in message.split("\r")


def test_each_service_sees_its_own_files_and_cannot_change_them(site: Site) -> None:
    def listed(service: str, folder: str) -> list[str]:
        return site.fleet.run(service, "ls", folder).split()

    assert listed("worker", "/etc/bloodcell") == ["exchange.toml", "receivers", "rules.toml"]
    assert listed("orders", "/etc/bloodcell") == ["exchange.toml", "orders"]
    for service in ("worker", "orders"):
        with pytest.raises(AssertionError, match=r"Permission denied|Read-only"):
            site.fleet.run(service, "sh", "-c", "echo >> /etc/bloodcell/exchange.toml")
    keys = site.fleet.volume("identity-keys")
    assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in keys.iterdir()} == {(USER, 0o600)}


def test_the_worker_counts_by_the_laboratorys_rules(site: Site) -> None:
    assert 'version = "our own ' in site.fleet.run("worker", "bloodcell", "rules", "show")


def test_orders_ends_at_once_when_it_is_stopped_and_is_then_not_healthy(site: Site) -> None:
    site.fleet.stop("orders")
    assert not site.fleet.is_healthy("orders")
