"""A night from the analyser to the systems at the other end: classified, counted, signed, and sent to three receivers.

    python -m benchmarks.acceptance.signed_night WORK PBC

WORK is an empty folder with a short path; PBC is the folder of real images, beside which tools/make_drop.py is. Twelve
slides of 110 cells are ingested, classified by the fastest shipped model, labelled where a signature needs it, and
signed by a person with a login of her own. `bloodcell exchange send` delivers them to two node-hl7-servers, of which
one also gets what nobody has signed, and to medplum's FHIR router. One slide goes through every state. Each message is
parsed by hl7 and validated by hl7apy, each FHIR resource by medplum and FHIR.js, and what they say is compared with the
database. Writes SIGNED_NIGHT.md beside this file; exit status 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.acceptance.foreign_systems import (
    BANANA,
    FhirServer,
    Hl7Inbox,
    differences,
    fhir_server,
    hl7_inbox,
    invalid,
    read_fhir,
    read_hl7,
    stored_facts,
)
from benchmarks.acceptance.signed_laboratory import (
    MODEL_ID,
    NOTHING_TO_DO,
    VARIANT,
    SignedLaboratory,
    signed_laboratory,
)
from bloodcell.presentation.markdown import markdown_table
from bloodcell.settings import Settings

OUT: Final = Path(__file__).with_name("SIGNED_NIGHT.md")
NIGHT: Final = "2026-11-28"
PERSON: Final = "anna"
SLIDES: Final = 12
CELLS: Final = 110
HL7_OF: Final = {"machine": "P", "final": "F", "corrected": "C", "amended": "C"}
OBX_OF: Final = {"P": "P", "F": "F", "C": "C", "X": "W"}
FHIR_OF: Final = {"machine": "partial", "final": "final", "corrected": "corrected", "amended": "amended"}
OBSERVATION_OF: Final = {"partial": "preliminary"}
CHAIN: Final = ("machine", "final", "corrected", "amended", "withdrawal", "amended")


@dataclass
class Night:
    """The laboratory, its receivers, and what was found.

    Attributes:
        laboratory: The laboratory.
        lis: An HL7 receiver that also gets what nobody has signed.
        ward: An HL7 receiver that gets what is signed.
        records: The FHIR server, which also gets what nobody has signed.
        problems: What is not as it should be.
        n_hl7: HL7 messages that were read and compared.
        n_fhir: Reports at the FHIR server that were read and compared.
        n_values: Values that were compared with the database.
        steps: Rows of the table about the slide that goes through every state.
    """

    laboratory: SignedLaboratory
    lis: Hl7Inbox
    ward: Hl7Inbox
    records: FhirServer
    problems: list[str] = field(default_factory=list)
    n_hl7: int = 0
    n_fhir: int = 0
    n_values: int = 0
    steps: list[list[str]] = field(default_factory=list)

    def expect(self, what: str, expected: object, received: object) -> None:
        """Notes a problem unless both are equal."""
        if expected != received:
            self.problems.append(f"{what}: expected {expected}, received {received}")
            print(f"  WRONG: {self.problems[-1]}", flush=True)

    def send(self) -> None:
        """Has three processes deliver at once, one for each receiver, and waits for what arrives."""
        names = ("lis", "ward", "records")
        for started in [self.laboratory.start("exchange", "send", "--receiver", name) for name in names]:
            started.wait((0, NOTHING_TO_DO))
        for name, inbox in (("lis", self.lis), ("ward", self.ward)):
            inbox.wait_for(len(self.messages(name, "state = 'delivered'")))

    def messages(self, receiver: str, where: str = "true") -> list[dict[str, object]]:
        return self.laboratory.rows(
            f"SELECT * FROM bloodcell.message WHERE receiver = :receiver AND {where} ORDER BY message_id",
            receiver=receiver,
        )

    def facts(self, barcode: str, version: object) -> Mapping[str, tuple[str, ...]]:
        of = {"barcode": barcode, "version": version}
        where = "WHERE barcode = :barcode AND version = :version"
        lines = self.laboratory.rows(f"SELECT * FROM bloodcell.result_line {where}", **of)
        (row,) = self.laboratory.rows(
            f"SELECT nrbc_per_100_wbc, nrbc_lower_95, nrbc_upper_95 FROM bloodcell.result_version {where}", **of
        )
        return stored_facts(lines, list(row.values()))


@contextmanager
def ready(work: Path) -> Iterator[Night]:
    """Yields the laboratory with its receivers, before the night arrives."""
    work.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        data_dir=work / "data", settle_s=0, shipped_models=False, exchange_file=work / "exchange.toml", sample_cells=0
    )
    with hl7_inbox() as lis, hl7_inbox() as ward, fhir_server() as records:
        parts = [
            hl7_part("lis", lis.port, "gets_unsigned = true"),
            hl7_part("ward", ward.port),
            f'[receivers.records]\nprotocol = "fhir"\nurl = "{records.url}"\ngets_unsigned = true\n',
        ]
        (work / "exchange.toml").write_text("\n".join(parts))
        with signed_laboratory(settings, work / "commands.txt") as laboratory:
            yield Night(laboratory, lis, ward, records)


def hl7_part(name: str, port: int, *more: str) -> str:
    """Returns the section of the exchange file about an HL7 receiver on this machine.

    It gets a connection for each message: node-hl7-server 2.5.0 never empties what it has read from a connection, and
    hands over the earlier messages of one again with each new one.
    """
    lines = [f"[receivers.{name}]", 'protocol = "hl7"', 'host = "127.0.0.1"', f"port = {port}", "tls = false"]
    return "\n".join(
        [*lines, "keep_open = false", f'application = "{name.upper()}"', 'facility = "HOSPITAL"', *more, ""]
    )


def deliver(night: Night, work: Path, pbc: Path) -> dict[str, dict[str, str]]:
    """Writes the analyser's drop; returns barcode -> file name -> class."""
    tool = pbc.parent / "tools" / "make_drop.py"
    command = [sys.executable, str(tool), str(work / "made"), "--night", NIGHT, "--slides", str(SLIDES)]
    subprocess.run([*command, "--cells", str(CELLS), "--images", str(pbc)], check=True, capture_output=True)
    for number, path in enumerate(sorted((work / "made" / NIGHT).glob("*/slide.json"))):
        record = json.loads(path.read_text()) | {
            "patient_key": f"P-{number:03}",
            "age_months": 12 * (3 + 7 * number),
            "sex": ("female", "male")[number % 2],
            "wbc_10e9_per_l": round(3.1 + 1.37 * number, 2),
            "wbc_is_corrected": number % 3 == 0,
        }
        path.write_text(json.dumps(record))
    drops = night.laboratory.settings.drops
    drops.mkdir(parents=True, exist_ok=True)
    shutil.move(work / "made" / NIGHT, drops / NIGHT)
    truth: dict[str, dict[str, str]] = {}
    with (work / "made" / f"{NIGHT}.truth.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            _, barcode, name = row["path"].split("/")
            truth.setdefault(barcode, {})[name] = row["class"]
    return truth


def compare_hl7(night: Night, name: str, inbox: Hl7Inbox) -> None:
    """Checks every message that a receiver has: valid, sent once, in order, and as the database says."""
    sent = night.messages(name, "state = 'delivered'")
    by_id = {str(each["control_id"]): each for each in sent}
    received = [each["control"] for each in inbox.received]
    night.expect(f"{name}: control ids, each once", len(received), len(set(received)))
    night.expect(f"{name}: messages that the database knows as delivered", set(by_id), set(received))
    attempts = {each["n_attempts"] for each in sent}
    night.expect(f"{name}: attempts of each message", {1}, attempts)
    for each in inbox.received:
        row = by_id[each["control"]]
        what = f"{name}: {row['barcode']} version {row['version']} ({row['kind']})"
        night.expect(f"{what}: problems of validators", "", invalid(each["text"]))
        found = read_hl7(each["text"])
        stored = night.facts(str(row["barcode"]), row["version"])
        for problem in differences(found.facts, stored):
            night.expect(what, "what the database says", problem)
        status = "X" if row["kind"] == "withdrawal" else HL7_OF[str(row["result_state"])]
        night.expect(f"{what}: OBR-25", status, each["status"])
        night.expect(f"{what}: OBX-11", (status, OBX_OF[status]), found.statuses)
        night.expect(f"{what}: model", ({MODEL_ID[:12]}, {VARIANT}), (set(found.models), set(found.variants)))
        reader = "" if row["result_state"] == "machine" else PERSON
        night.expect(f"{what}: reader", {reader}, set(found.readers))
        night.n_hl7 += 1
        night.n_values += sum(len(values) for values in found.facts.values())


def compare_fhir(night: Night, barcode: str) -> None:
    """Checks what the FHIR server has of a slide now against the version that it was sent last."""
    sent = night.messages("records", f"state = 'delivered' AND barcode = '{barcode}'")
    row = sent[-1]
    what = f"records: {barcode} version {row['version']} ({row['kind']})"
    found = read_fhir(night.records, night.records.report(barcode))
    for problem in differences(found.facts, night.facts(barcode, row["version"])):
        night.expect(what, "what the database says", problem)
    status = "entered-in-error" if row["kind"] == "withdrawal" else FHIR_OF[str(row["result_state"])]
    night.expect(f"{what}: statuses", (status, OBSERVATION_OF.get(status, status)), found.statuses)
    night.expect(f"{what}: model", MODEL_ID, found.model_id)
    reader = "" if row["result_state"] == "machine" else PERSON
    night.expect(f"{what}: reader", reader, found.reader)
    night.n_fhir += 1
    night.n_values += sum(len(values) for values in found.facts.values())


def history(night: Night, barcode: str) -> list[str]:
    """Returns the statuses of a slide's report at the FHIR server, the oldest first."""
    return [each["status"] for each in night.records.history(night.records.report(barcode))]


def step(night: Night, barcode: str, what: str) -> None:
    """Sends, checks the FHIR server, and adds a row about the slide that goes through every state."""
    night.send()
    compare_fhir(night, barcode)
    (version,) = {each["version"] for each in night.messages("records", f"barcode = '{barcode}'")[-1:]}
    found = read_fhir(night.records, night.records.report(barcode))
    seen = [read_hl7(inbox.texts(barcode)[-1]).statuses if inbox.texts(barcode) else ("", "")
            for inbox in (night.lis, night.ward)]  # fmt: skip
    texts = [" ".join(filter(None, each)) or "nothing" for each in seen]
    night.steps.append([barcode, what, str(version), *texts, *found.statuses])
    print(f"  {' | '.join(night.steps[-1])}", flush=True)


def correct(night: Night, barcode: str, label: str, how: str, reason: str) -> None:
    """Has the person label a neutrophil, sends what is counted but not signed (nothing leaves), and signs again."""
    laboratory = night.laboratory
    (cell,) = laboratory.rows(
        "SELECT file_name FROM bloodcell.cell_result WHERE barcode = :barcode AND is_reported "
        "AND called_class = 'neutrophil' AND NOT EXISTS (SELECT FROM bloodcell.cell_label l "
        "WHERE l.barcode = cell_result.barcode AND l.file_name = cell_result.file_name) ORDER BY file_name LIMIT 1",
        barcode=barcode,
    )
    laboratory.label(PERSON, barcode, {cell["file_name"]: label})
    laboratory.count_labels()
    before = (len(night.lis.received), len(night.ward.received), history(night, barcode))
    night.send()
    after = (len(night.lis.received), len(night.ward.received), history(night, barcode))
    night.expect(f"{barcode}: what leaves before it is signed again", before, after)
    laboratory.sign(PERSON, barcode, how, reason)


def run(night: Night, work: Path, pbc: Path) -> tuple[str, list[list[str]]]:
    """Does the whole night; returns the slide that went through every state, and a row for each slide."""
    laboratory = night.laboratory
    laboratory.run("exchange", "send", status=(NOTHING_TO_DO,))  # the receivers are known from now on
    night.expect("records: a status that FHIR does not know is refused", True, night.records.refuses(BANANA))
    truth = deliver(night, work, pbc)
    timed("ingest", laboratory, "ingest", str(laboratory.settings.drops / NIGHT))
    timed("classify", laboratory, "classify", "--night", NIGHT)
    machine = {barcode: laboratory.newest(barcode) for barcode in sorted(truth)}
    chosen = next(barcode for barcode, row in machine.items() if row["state"] == "machine")
    step(night, chosen, "counted by the machine")
    n_unclassified = sum(laboratory.label_unclassified(PERSON, barcode, names) for barcode, names in truth.items())
    print(f"  {n_unclassified} unclassified cells were labelled", flush=True)
    laboratory.count_labels()
    for barcode in truth:
        laboratory.sign(PERSON, barcode)
    step(night, chosen, "signed")
    for barcode in truth:
        compare_fhir(night, barcode)
        was_withheld = machine[barcode]["state"] == "withheld"  # a receiver gets nothing of it before it is signed
        night.expect(f"lis: {barcode}", ["P", "F"][was_withheld:], night.lis.statuses(barcode))
        night.expect(f"ward: {barcode}", ["F"], night.ward.statuses(barcode))
        night.expect(f"records: {barcode}", ["partial", "final"][was_withheld:], history(night, barcode))
    correct(night, chosen, "ig", "--corrected", "one cell is an immature granulocyte")
    step(night, chosen, "corrected")
    correct(night, chosen, "BNE", "--amended", "one cell is a band")
    step(night, chosen, "amended")
    laboratory.run("withdraw", chosen, "--reason", "the label was scanned from the wrong rack", "--yes")
    step(night, chosen, "withdrawn")
    laboratory.run("withdraw", chosen, "--undo", "--reason", "the rack was right", "--yes")
    step(night, chosen, "restored")
    for name, inbox in (("lis", night.lis), ("ward", night.ward)):
        compare_hl7(night, name, inbox)
    night.expect(f"lis: {chosen}", ["P", "F", "C", "C", "X", "C"], night.lis.statuses(chosen))
    night.expect(f"ward: {chosen}", ["F", "C", "C", "X", "C"], night.ward.statuses(chosen))
    expected = [FHIR_OF.get(each, "entered-in-error") for each in CHAIN]
    night.expect(f"records: {chosen}", expected, history(night, chosen))
    provenances = len(night.records.all("Provenance"))
    night.expect("records: one Provenance for each message", len(night.messages("records", "state = 'delivered'")),
                 provenances)  # fmt: skip
    night.expect("messages that wait or were rejected", [], laboratory.rows(
        "SELECT receiver, barcode, state FROM bloodcell.message WHERE state IN ('waiting', 'held')"))  # fmt: skip
    return chosen, [slide_row(night, barcode, machine[barcode]["state"]) for barcode in truth]


def slide_row(night: Night, barcode: str, machine_state: str) -> list[str]:
    """Returns the row of a slide: what each receiver saw, in the order in which it came."""
    newest = night.laboratory.newest(barcode)
    versions = [
        str(each["version"]) for each in night.messages("lis", f"state = 'delivered' AND barcode = '{barcode}'")
    ]
    return [
        barcode,
        str(newest["n_leucocytes"]),
        f"{newest['wbc_received']:g}",
        machine_state,
        " ".join(versions),
        " ".join(night.lis.statuses(barcode)),
        " ".join(night.ward.statuses(barcode)),
        ", ".join(history(night, barcode)),
    ]


def timed(what: str, laboratory: SignedLaboratory, *arguments: str) -> None:
    started = time.monotonic()
    laboratory.run(*arguments)
    print(f"{time.monotonic() - started:6.0f} s  {what}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder with a short path")
    parser.add_argument("pbc", type=Path, help="the folder of real images, <class>/*.jpg")
    given = parser.parse_args()
    work, pbc = given.work.resolve(), given.pbc.resolve()
    with ready(work) as night:
        chosen, rows = run(night, work, pbc)
    chain = ["slide", "what happened", "version", "lis: OBR-25, OBX-11", "ward", "DiagnosticReport", "Observation"]
    slides = ["slide", "leucocytes", "WBC, 10^9/L", "machine's state", "versions sent to lis", "lis: OBR-25",
              "ward: OBR-25", "records: DiagnosticReport"]  # fmt: skip
    figures = (
        f"{night.n_hl7} HL7 messages and {night.n_fhir} states of FHIR reports were read, and {night.n_values:,} "
        "values in them compared with the database (share, both ends of the interval, cells, absolute count), with the "
        "reader and the model of each. Each message arrived once, at the first attempt. hl7 parsed and hl7apy "
        "validated all HL7 messages; the FHIR server, which refuses what medplum or FHIR.js finds wrong, refused none."
    )
    verdict = "Everything is as it should be." if not night.problems else "**WRONG:** " + "; ".join(night.problems)
    OUT.write_text("\n\n".join([
        "# A signed night at three receivers",
        f"Written by `python -m benchmarks.acceptance.signed_night` on {datetime.now(UTC):%Y-%m-%d}. {SLIDES} slides "
        f"of {CELLS} real images, classified by {VARIANT} `{MODEL_ID[:12]}`, signed by {PERSON}. `lis` and `ward` are "
        "node-hl7-servers, `records` is medplum's FHIR router; `lis` and `records` also get what nobody has signed.",
        f"What each receiver saw of each slide, in the order in which it came; {chosen} went through every state.",
        markdown_table(slides, rows, right=[1, 2]),
        markdown_table(chain, night.steps, right=[2]),
        figures,
        verdict,
    ]) + "\n")  # fmt: skip
    print(figures, verdict, sep="\n")
    return int(bool(night.problems))


if __name__ == "__main__":
    sys.exit(main())
