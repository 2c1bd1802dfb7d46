"""The systems at the other end: receivers that others have written, and what they hold of the results sent to them."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final

import hl7
import httpx
from hl7apy.parser import parse_message

from tests.exchange.foreign_receivers import running
from tests.exchange.hl7_receiver import status_of

PATIENCE_S: Final = 60.0
_INTERVAL: Final = re.compile(r"95 % interval ([\d.]+)–([\d.]+)")
_ALL: Final = "_count=1000"

Facts = Mapping[str, tuple[str, ...]]
"""Line of a differential -> share, lower and upper end of its interval, cells, and absolute count, as they are read."""


@dataclass
class Hl7Inbox:
    """A node-hl7-server, and what it received.

    Attributes:
        port: Where it listens.
        received: What it parsed of each message, in the order in which they came.
    """

    port: int
    received: list[dict[str, Any]] = field(default_factory=list)

    def collect(self, printed: IO[str]) -> None:
        for line in printed:
            self.received.append(json.loads(line))

    def wait_for(self, n: int) -> None:
        """Waits until so many messages have arrived in all.

        Raises:
            TimeoutError: They have not.
        """
        ends_at = time.monotonic() + PATIENCE_S
        while len(self.received) < n:
            if time.monotonic() > ends_at:
                raise TimeoutError(f"{n} messages were expected, {len(self.received)} have arrived")
            time.sleep(0.05)

    def texts(self, barcode: str | None = None) -> list[str]:
        """Returns the messages, or those about one slide."""
        return [each["text"] for each in self.received if barcode in (None, each["barcode"])]

    def statuses(self, barcode: str) -> list[str]:
        """Returns OBR-25 of each message about a slide."""
        return [each["status"] for each in self.received if each["barcode"] == barcode]


@contextmanager
def hl7_inbox() -> Iterator[Hl7Inbox]:
    """Runs a node-hl7-server."""
    with running("hl7_server.mjs") as (port, printed):
        inbox = Hl7Inbox(port)
        threading.Thread(target=inbox.collect, args=(printed,), daemon=True).start()
        yield inbox


@dataclass(frozen=True)
class FhirServer:
    """A running FHIR server, which refuses what medplum or FHIR.js finds wrong with 422."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def search(self, what: str) -> list[dict[str, Any]]:
        """Returns the resources of a search or a history."""
        found = httpx.get(self.url + what, trust_env=False, timeout=PATIENCE_S).raise_for_status().json()
        return [entry["resource"] for entry in found.get("entry", ())]

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Returns the newest version of each resource of a kind."""
        return self.search(f"{kind}?{_ALL}")

    def report(self, barcode: str) -> dict[str, Any]:
        """Returns the report of a slide; there has to be one."""
        (found,) = (
            each for each in self.all("DiagnosticReport") if barcode in [i["value"] for i in each["identifier"]]
        )
        return found

    def history(self, resource: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns every version of a resource, the oldest first.

        medplum's MemoryRepository turns its own list round each time that it is asked, so the order is not to be used.
        """
        found = self.search(f"{resource['resourceType']}/{resource['id']}/_history")
        return sorted(found, key=lambda each: str(each["meta"]["lastUpdated"]))

    def read(self, reference: Mapping[str, str]) -> dict[str, Any]:
        """Returns the newest version of what a reference names."""
        found = httpx.get(self.url + reference["reference"], trust_env=False, timeout=PATIENCE_S)
        document: dict[str, Any] = found.raise_for_status().json()
        return document

    def refuses(self, wrong: Mapping[str, Any]) -> bool:
        """Returns whether it refuses a resource, which shows that it validates what it gets."""
        entry = {"resource": wrong, "request": {"method": "PUT", "url": f"{wrong['resourceType']}/{wrong['id']}"}}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        return httpx.post(self.url, json=bundle, trust_env=False, timeout=PATIENCE_S).status_code == 422


@contextmanager
def fhir_server() -> Iterator[FhirServer]:
    """Runs medplum's FHIR router with its resources in memory."""
    with running("fhir_server.mjs") as (port, _):
        yield FhirServer(port)


BANANA: Final = {"resourceType": "DiagnosticReport", "id": "a", "status": "banana", "code": {"text": "x"}}
"""A resource that is no valid R4."""


def invalid(text: str) -> str:
    """Returns what is wrong with an HL7 message for hl7 or hl7apy; empty if nothing is."""
    try:
        parsed = hl7.parse(text)
        names = [str(each[0]) for each in parsed]
        if names[:4] != ["MSH", "SFT", "PID", "OBR"]:
            return f"hl7 reads the segments {names[:4]}"
        return "" if parse_message(text, find_groups=True).validate() else "hl7apy finds it invalid"
    except Exception as error:  # either library raises errors of its own of many kinds
        return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Hl7Result:
    """What an HL7 message says.

    Attributes:
        facts: Its lines.
        ranges: Line -> reference range (OBX-7), of lines that have one.
        readers: Who signed (OBX-16).
        models: The first twelve characters of the model's id (OBX-18).
        variants: The model's variant (OBX-17).
        statuses: OBR-25, then every OBX-11 that occurs.
        patient: PID.
    """

    facts: Facts
    ranges: Mapping[str, str]
    readers: frozenset[str]
    models: frozenset[str]
    variants: frozenset[str]
    statuses: tuple[str, ...]
    patient: tuple[str, ...]


def read_hl7(text: str) -> Hl7Result:
    """Returns what a message says, read by the library hl7."""
    rows = [[str(each) for each in segment] for segment in hl7.parse(text)]
    shares: dict[str, list[str]] = {}
    cells: dict[str, str] = {}
    absolute: dict[str, str] = {}
    ranges: dict[str, str] = {}
    line = ""
    for row in rows:
        if row[0] == "NTE" and line and (found := _INTERVAL.search(row[3])):
            shares[line] += found.groups()
        if row[0] != "OBX":
            continue
        name, _, what = row[3].split("^")[-3].rpartition("_")
        line = name if what == "PERCENT" else ""
        if what == "PERCENT":
            shares[name] = [row[5]]
            if row[7]:
                ranges[name] = row[7]
        (cells if what == "CELLS" else absolute if what == "ABSOLUTE" else {})[name] = row[5]
    of_obx = [row for row in rows if row[0] == "OBX"]
    status, of_lines = status_of(text)
    return Hl7Result(
        {name: (*found, cells[name], absolute.get(name, "")) for name, found in shares.items()},
        ranges,
        frozenset(row[16] for row in of_obx),
        frozenset(row[18].split("^")[0] for row in of_obx),
        frozenset(row[17].split("^")[0] for row in of_obx),
        (status, *sorted(of_lines)),
        tuple(next(row for row in rows if row[0] == "PID")),
    )


@dataclass(frozen=True)
class FhirResult:
    """What a report at the FHIR server says, with the newest versions of its observations.

    Attributes:
        facts: Its lines.
        reader: Who signed; empty: nobody.
        model_id: The model.
        statuses: Status of the report, then every status of its observations.
        subject: Identifier of the patient, with its system.
    """

    facts: Facts
    reader: str
    model_id: str
    statuses: tuple[str, ...]
    subject: tuple[str, str]


def read_fhir(server: FhirServer, report: Mapping[str, Any]) -> FhirResult:
    """Returns what the server has of a report."""
    by_reference = {f"Observation/{each['id']}": each for each in server.all("Observation")}
    members = [by_reference[each["reference"]] for each in report["result"]]
    shares: dict[str, list[str]] = {}
    absolute: dict[str, str] = {}
    for each in members:
        name, _, what = each["code"]["coding"][-1]["code"].rpartition("_")
        if what == "PERCENT":
            notes = " ".join(note["text"] for note in each.get("note", ()))
            found = _INTERVAL.search(notes)
            counted = each["component"][0]["valueQuantity"]["value"]
            shares[name] = [_text(each, 1), *(found.groups() if found else ()), f"{counted:.0f}"]
        elif what == "ABSOLUTE":
            absolute[name] = _text(each, 2)
    device = server.read(members[0]["device"])
    subject = report["subject"].get("identifier", {})
    return FhirResult(
        {name: (*found, absolute.get(name, "")) for name, found in shares.items()},
        "".join(each["display"] for each in report.get("resultsInterpreter", ())),
        device["version"][0]["value"],
        (report["status"], *sorted({each["status"] for each in members})),
        (subject.get("system", ""), subject.get("value", "")),
    )


def _text(observation: Mapping[str, Any], digits: int) -> str:
    return f"{observation['valueQuantity']['value']:.{digits}f}" if "valueQuantity" in observation else ""


def stored_facts(lines: Sequence[Mapping[str, Any]], nrbc: Sequence[float | None]) -> Facts:
    """Returns what a receiver has to have, as the database says it.

    Args:
        lines: Rows of the view `result_line` of one version.
        nrbc: Erythroblasts per 100 leucocytes, with the ends of the interval, of the same version.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        name = line["class"]
        is_ratio = name == "erythroblast"
        names = ("percentage", "percentage_lower_95", "percentage_upper_95")
        values = nrbc if is_ratio else [line[each] for each in names]
        if values[0] is None:
            continue
        absolute = line["absolute_10e9_per_l"]
        found[name.upper()] = (
            *(f"{value:.1f}" for value in values),
            str(line["n_cells"]),
            "" if absolute is None or is_ratio else f"{absolute:.2f}",
        )
    return found


def differences(received: Facts, stored: Facts) -> list[str]:
    """Returns where a receiver has something else than the database; a line without cells may be missing in both."""
    return [
        f"{name}: received {received.get(name)}, stored {stored.get(name)}"
        for name in sorted(received.keys() | stored.keys())
        if received.get(name) != stored.get(name) and (name in received or stored[name][3] != "0")
    ]
