"""Three patients from their orders to their results, and what is left of who they are: nothing, in any place.

    python -m benchmarks.acceptance.three_patients WORK PBC

WORK is an empty folder with a short path; PBC is the folder of real images. `bloodcell up` runs with Airflow. An
infant, a child and a woman are ordered by OML^O21 through the order listener, their slides arrive, the watcher has them
classified, a person signs, and the Dag send_results sends: to a receiver that may know who they are, to one that may
not, to a FHIR server, and to one that rejects everything and repeats the patient in its answer. Then backups are made
as docs/how-to/backup.md says, the lifetime of the identities passes (their rows and keys are made older), and
everything is searched before and after for names, numbers and dates of birth. Writes THREE_PATIENTS.md beside this
file; exit status 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.acceptance.foreign_systems import (
    FhirServer,
    Hl7Inbox,
    Hl7Result,
    fhir_server,
    hl7_inbox,
    invalid,
    read_fhir,
    read_hl7,
)
from benchmarks.acceptance.honest_slides import CODES, Images
from benchmarks.acceptance.identity_search import Kept, keep_and_expire
from benchmarks.acceptance.signed_laboratory import NOTHING_TO_DO, VARIANT, SignedLaboratory, signed_laboratory
from benchmarks.acceptance.signed_night import hl7_part
from benchmarks.acceptance.three_ages import put
from bloodcell.presentation.markdown import markdown_table
from bloodcell.service.up import running_stack
from bloodcell.settings import Settings
from bloodcell.storage.embedded import embedded_database
from tests.exchange.hl7_receiver import Receiver, acknowledged, receiving
from tests.exchange.test_orders import oml, said
from tests.service.conftest import free_port

OUT: Final = Path(__file__).with_name("THREE_PATIENTS.md")
NIGHT: Final = "2026-11-29"
PERSON: Final = "anna"
PATIENT_SYSTEM: Final = "urn:oid:1.2.3.4"
PATIENCE_S: Final = 900.0


@dataclass(frozen=True)
class Patient:
    """A patient, as the hospital knows them.

    Attributes:
        who: In words.
        barcode: The specimen, and so the slide.
        order_id: The order.
        number: The hospital's number.
        name: Family name and given name.
        born: Date of birth, YYYYMMDD.
        sex: F or M.
        wbc: Leucocyte count in 10^9 per litre.
        age_months: Age when the specimen was collected.
        pseudonym: What the analyser calls the patient.
        cells: Cells of the slide.
        ranges: Reference ranges in percent, as published; Source: see default_rules.toml.
    """

    who: str
    barcode: str
    order_id: str
    number: str
    name: tuple[str, str]
    born: str
    sex: str
    wbc: str
    age_months: int
    pseudonym: str
    cells: Mapping[str, int]
    ranges: Mapping[str, str]

    @property
    def pid(self) -> str:
        return f"PID|1||{self.number}^^^HOSPITAL^MR||{'^'.join(self.name)}||{self.born}|{self.sex}"

    @property
    def spellings(self) -> dict[str, tuple[str, ...]]:
        """What identifies the patient -> how it may be written."""
        year, month, day = self.born[:4], self.born[4:6], self.born[6:]
        dates = (self.born, f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}/{day}/{year}")
        return {
            f"name of the {self.who}": self.name,
            f"number of the {self.who}": (self.number, self.number.replace("-", "")),
            f"date of birth of the {self.who}": dates,
        }


PATIENTS: Final = (
    Patient("infant of 3 months", "E2E-101", "O-7101", "7300-4419-01", ("WÜRZELBACHER", "LEOPOLDINE"), "20260817", "F",
            "11.4", 3, "P-101", {"neutrophil": 36, "lymphocyte": 70, "monocyte": 8, "eosinophil": 3, "basophil": 1},
            {"NEUTROPHIL": "21-67", "EOSINOPHIL": "0-3.3", "BASOPHIL": "0-1", "LYMPHOCYTE": "20-64",
             "MONOCYTE": "4-11", "IG": "0-0.3"}),
    Patient("child of 6 years", "E2E-102", "O-7102", "7300-4419-02", ("QUARTERMAINE", "BALTHASAR"), "20200914", "M",
            "8.25", 74, "P-102", {"neutrophil": 58, "lymphocyte": 48, "monocyte": 7, "eosinophil": 4, "basophil": 1},
            {"NEUTROPHIL": "30-77", "EOSINOPHIL": "0-5.8", "BASOPHIL": "0-1", "LYMPHOCYTE": "14-50",
             "MONOCYTE": "4-9", "IG": "0-0.3"}),
    Patient("woman of 41 years", "E2E-103", "O-7103", "7300-4419-03", ("ØSTERGAARD-LINDQVIST", "MARGRETHE"),
            "19850423", "F", "6.9", 499, "P-103",
            {"neutrophil": 72, "lymphocyte": 34, "monocyte": 7, "eosinophil": 3, "basophil": 1, "ig": 1},
            {"NEUTROPHIL": "40-75", "EOSINOPHIL": "0-5.5", "BASOPHIL": "0-1", "LYMPHOCYTE": "12-44",
             "MONOCYTE": "4-9", "IG": "0-0.9"}),
)  # fmt: skip


@dataclass
class Clinic:
    """The laboratory, the receivers of its results, and what was found.

    Attributes:
        laboratory: The laboratory.
        lis: An HL7 receiver that may know who patients are.
        research: An HL7 receiver that gets pseudonyms.
        records: The FHIR server, which gets the hospital's numbers.
        mirror: An HL7 receiver that rejects each message and repeats what it says of the patient.
        problems: What is not as it should be.
        rows: Rows of the table of patients.
    """

    laboratory: SignedLaboratory
    lis: Hl7Inbox
    research: Hl7Inbox
    records: FhirServer
    mirror: Receiver
    problems: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def expect(self, what: str, expected: object, received: object) -> None:
        """Notes a problem unless both are equal."""
        if expected != received:
            self.problems.append(f"{what}: expected {expected}, received {received}")
            print(f"  WRONG: {self.problems[-1]}", flush=True)


def exchange_file(path: Path, clinic: tuple[Hl7Inbox, Hl7Inbox, FhirServer, Receiver], orders: int) -> None:
    """Writes the exchange file: four receivers, and where orders come in."""
    lis, research, records, mirror = clinic
    path.write_text("\n".join([
        hl7_part("lis", lis.port),
        hl7_part("research", research.port, "gets_identity = false"),
        hl7_part("mirror", mirror.port),
        f'[receivers.records]\nprotocol = "fhir"\nurl = "{records.url}"\npatient_system = "{PATIENT_SYSTEM}"\n',
        f"[orders]\nport = {orders}\n",
    ]))  # fmt: skip


def repeating(message: str) -> list[bytes]:
    """Rejects a message as an unkind receiver does: with the patient in its answer."""
    pid = next(line for line in message.split("\r") if line.startswith("PID")).split("|")
    name, number = pid[5].replace("^", " "), pid[3].split("^")[0]
    return [acknowledged(message, "AE", f"patient {name} ({number}), born {pid[7]}, is not known here")]


def order(clinic: Clinic, port: int) -> None:
    """Sends an order for each patient over one connection: two that are refused, one that cannot be stored, and again.

    It cannot be stored because Postgres refuses the row, which its log says.
    """
    table = "ALTER TABLE bloodcell_identity.patient_identity"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for number, each in enumerate(PATIENTS):
            body = oml(f"m{number}", barcode=each.barcode, order=each.order_id, patient=each.pid,
                       wbc=f"{each.wbc}|10*9/L")  # fmt: skip
            body = body.replace(b"||BLD^Blood^HL70487", b"||BLD" + b"|" * 13 + b"20261128203000+0000")
            answers = [said(connection, body.replace(f"|{each.wbc}|".encode(), b"|many|")),
                       said(connection, body.replace(each.born.encode(), b"31.12.1899"))]  # fmt: skip
            clinic.laboratory.write(f"{table} ADD CONSTRAINT broken CHECK (false) NOT VALID")
            answers.append(said(connection, body))
            clinic.laboratory.write(f"{table} DROP CONSTRAINT broken")
            answers.append(said(connection, body))
            lines = [line.split("|") for answer in answers for line in answer.split("\r")]
            codes = [line[1:3] for line in lines if line[0] == "MSA"]
            expected = [[code, f"m{number}"] for code in ("AE", "AE", "AR", "AA")]
            clinic.expect(f"{each.barcode}: answers to its order", expected, codes)
    log = (clinic.laboratory.settings.data_dir / "postgres" / "log").read_text()
    clinic.expect("failures in Postgres's log", len(PATIENTS), log.count('violates check constraint "broken"'))
    print("  three orders were accepted; nine before them were refused, or could not be stored", flush=True)


def deliver(settings: Settings, pbc: Path) -> dict[str, dict[str, str]]:
    """Writes the night's drop, without an order, an age or a count; returns barcode -> file name -> class."""
    images, truth = Images(pbc), {}
    for each in PATIENTS:
        cells = images.take(each.cells)
        record = {"patient_key": each.pseudonym, "analyser": "DM96", "acquired_at": f"{NIGHT}T01:02:03Z"}
        put(settings.drops / NIGHT / each.barcode, cells, CODES, record)
        truth[each.barcode] = {f"{CODES[name]}_{place:04}.jpg": name for place, (name, _) in enumerate(cells)}
    (settings.drops / NIGHT / ".complete").touch()
    return truth


def wait_for(laboratory: SignedLaboratory, what: str, statement: str, n: int) -> None:
    """Waits until a count in the database has a value.

    Raises:
        TimeoutError: It does not.
    """
    started = time.monotonic()
    while laboratory.rows(f"SELECT count(*) AS n FROM {statement}")[0]["n"] < n:
        if time.monotonic() - started > PATIENCE_S:
            raise TimeoutError(f"{what}: fewer than {n}")
        time.sleep(2)
    print(f"{time.monotonic() - started:6.0f} s  {what}", flush=True)


def live(clinic: Clinic, pbc: Path, orders: int) -> None:
    """Runs the whole system until every receiver has, or has rejected, the three results."""
    laboratory = clinic.laboratory
    with running_stack(laboratory.settings, announce=lambda line: print(f"  {line}", flush=True)):
        laboratory.run("exchange", "send", status=(NOTHING_TO_DO,))  # the receivers are known from now on
        order(clinic, orders)
        truth = deliver(laboratory.settings, pbc)
        wait_for(laboratory, "classified and counted", "bloodcell.result", len(PATIENTS))
        n = sum(laboratory.label_unclassified(PERSON, barcode, names) for barcode, names in truth.items())
        print(f"  {n} unclassified cells were labelled", flush=True)
        laboratory.count_labels()
        for each in PATIENTS:
            laboratory.sign(PERSON, each.barcode)
        done = "bloodcell.message WHERE state IN ('delivered', 'held')"
        wait_for(laboratory, "sent by the Dag send_results", done, 4 * len(PATIENTS))
    laboratory.server = embedded_database(laboratory.settings)  # the system has stopped it


def compare(clinic: Clinic, each: Patient) -> None:
    """Checks what the receivers have of a patient, and adds a row about it."""
    barcode, laboratory = each.barcode, clinic.laboratory
    stored = laboratory.newest(barcode)
    clinic.expect(f"{barcode}: age, sex and leucocytes",
                  (each.age_months, {"F": "female", "M": "male"}[each.sex], float(each.wbc)),
                  (stored["age_months"], stored["sex"], stored["wbc_received"]))  # fmt: skip
    texts = [inbox.texts(barcode) for inbox in (clinic.lis, clinic.research)]
    clinic.expect(f"{barcode}: messages at lis and research", [1, 1], [len(found) for found in texts])
    clinic.expect(f"{barcode}: problems of validators", ["", ""], [invalid(found[0]) for found in texts])
    lis, research = (read_hl7(found[0]) for found in texts)
    clinic.expect(f"{barcode}: reference ranges", dict(each.ranges), dict(lis.ranges))
    clinic.expect(f"{barcode}: PID at lis", each.pid, "|".join(lis.patient))
    clinic.expect(f"{barcode}: PID at research", (each.pseudonym, f"{each.pseudonym}^^^^^^S"),
                  (research.patient[3].split("^")[0], research.patient[5]))  # fmt: skip
    known = [what for what, spellings in each.spellings.items() if any(one in texts[1][0] for one in spellings)]
    clinic.expect(f"{barcode}: what research was told of the patient", [], known)
    fhir = read_fhir(clinic.records, clinic.records.report(barcode))
    clinic.expect(f"{barcode}: subject at records", (PATIENT_SYSTEM, each.number), fhir.subject)
    clinic.expect(f"{barcode}: values at research and records", [lis.facts] * 2, [research.facts, fhir.facts])
    absolute = absolute_counts(lis, float(each.wbc))
    for name, (received, expected) in absolute.items():
        clinic.expect(f"{barcode}: {name}, 10^9/L", expected, received)
    told = "; ".join(f"{name.lower()} {lis.facts[name][0]} % ({lis.ranges[name]}), {received}"
                     for name, (received, _) in absolute.items() if name in lis.ranges)  # fmt: skip
    clinic.rows.append([each.who, barcode, f"{stored['age_months']} months", each.wbc, told,
                        "PID as in the order", research.patient[5].split("^")[0], "the hospital's number"])  # fmt: skip
    print(f"  {' | '.join(clinic.rows[-1])}", flush=True)


def correct(clinic: Clinic) -> str:
    """Signs a correction after the expiry, which waits where the receiver knows the patient; returns what happened."""
    barcode, laboratory = PATIENTS[0].barcode, clinic.laboratory
    laboratory.label(PERSON, barcode, {f"{CODES['neutrophil']}_0000.jpg": "ig"})
    laboratory.count_labels()
    laboratory.sign(PERSON, barcode, "--corrected", "one cell is an immature granulocyte")
    laboratory.run("exchange", "send", status=(1,))
    clinic.research.wait_for(len(PATIENTS) + 1)
    seen = [inbox.statuses(barcode) for inbox in (clinic.lis, clinic.research)]
    clinic.expect(f"{barcode}: OBR-25 at lis and research after the expiry", [["F"], ["F", "C"]], seen)
    rows = laboratory.rows(
        "SELECT receiver, state, coalesce(last_answer, '') AS answer FROM bloodcell.message "
        "WHERE barcode = :barcode AND result_state = 'corrected' AND receiver <> 'mirror' ORDER BY receiver",
        barcode=barcode,
    )
    states = {row["receiver"]: row["state"] for row in rows}
    expected = {"lis": "held", "records": "held", "research": "delivered"}
    clinic.expect(f"{barcode}: the correction after the expiry", expected, states)
    answers = {row["answer"] for row in rows if row["state"] == "held"}
    told = "Not sent: the receiver has the slide under a patient whom bloodcell does not know any more"
    clinic.expect(f"{barcode}: why it waits", True, all(answer.startswith(told) for answer in answers))
    return (
        f"After the expiry, a correction of {barcode} was signed. `research` got it, under the pseudonym as before. "
        "For `lis` and `records`, which have the slide under a patient whom bloodcell does not know any more, it waits "
        "for a person."
    )


def absolute_counts(result: Hl7Result, wbc: float) -> dict[str, tuple[str, str]]:
    """Returns line -> absolute count as received, and as the received cells and the ordered leucocyte count give it."""
    of_leucocytes = {name: facts for name, facts in result.facts.items() if name != "ERYTHROBLAST"}
    total = sum(int(facts[3]) for facts in of_leucocytes.values())
    return {name: (facts[4], f"{wbc * int(facts[3]) / total:.2f}") for name, facts in of_leucocytes.items()}


def written(clinic: Clinic, kept: Kept, corrected: str) -> str:
    """Returns the page."""
    head = ["patient", "slide", "age used", "WBC, 10^9/L", "lines: % (reference range), 10^9/L", "lis", "research",
            "records"]  # fmt: skip
    problems = clinic.problems + kept.problems
    verdict = "Everything is as it should be." if not problems else "**WRONG:** " + "; ".join(problems)
    return "\n\n".join([
        "# Three patients, and what is left of who they are",
        f"Written by `python -m benchmarks.acceptance.three_patients` on {datetime.now(UTC):%Y-%m-%d}, with "
        f"{VARIANT}. `bloodcell up` ran with Airflow; orders came through the order listener, and the Dag "
        "`send_results` sent. `lis` gets PID, `research` the pseudonym, `records` (FHIR) the hospital's number; "
        "`mirror` rejects every message and repeats the patient in its answer.",
        markdown_table(head, clinic.rows, right=[3]),
        "The absolute counts are those of the received cells times the ordered leucocyte count. Before each order was "
        "accepted, it came three times more: with a leucocyte count that is no number, with a date of birth that is "
        "none, and while Postgres refused the row.",
        kept.text,
        corrected,
        verdict,
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder with a short path")
    parser.add_argument("pbc", type=Path, help="the folder of real images, <class>/*.jpg")
    given = parser.parse_args()
    work, pbc, orders = given.work.resolve(), given.pbc.resolve(), free_port()
    work.mkdir(parents=True, exist_ok=True)
    crons: dict[str, Any] = dict.fromkeys(
        ("nightly_cron", "labels_cron", "retrain_cron", "check_cron", "clean_cron", "verify_cron"), ""
    )
    settings = Settings(
        data_dir=work / "data", settle_s=2, shipped_models=False, exchange_file=work / "exchange.toml", sample_cells=0,
        airflow_url=f"http://127.0.0.1:{free_port()}", desk_url=f"http://127.0.0.1:{free_port()}", **crons
    )  # fmt: skip
    with hl7_inbox() as lis, hl7_inbox() as research, fhir_server() as records, receiving() as mirror:
        mirror.answer = repeating
        exchange_file(work / "exchange.toml", (lis, research, records, mirror), orders)
        with signed_laboratory(settings, work / "commands.txt") as laboratory:
            clinic = Clinic(laboratory, lis, research, records, mirror)
            live(clinic, pbc, orders)
            for each in PATIENTS:
                compare(clinic, each)
            (work / "receivers").mkdir(exist_ok=True)
            (work / "receivers" / "lis.json").write_text(json.dumps(lis.received, ensure_ascii=False))
            sought = {what: texts for each in PATIENTS for what, texts in each.spellings.items()}
            kept = keep_and_expire(laboratory, work, sought, [each.barcode for each in PATIENTS])
            corrected = correct(clinic)
    OUT.write_text(written(clinic, kept, corrected) + "\n")
    print(kept.text)
    for problem in clinic.problems + kept.problems:
        print(f"WRONG: {problem}")
    return int(bool(clinic.problems + kept.problems))


if __name__ == "__main__":
    sys.exit(main())
