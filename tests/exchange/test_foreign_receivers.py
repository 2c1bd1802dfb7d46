"""The status chain of a slide arrives at receivers that others have written, and validators find nothing wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import hl7
import httpx
import pytest
from hl7apy.parser import parse_message

from bloodcell.exchange.message_actions import MessageDecision, decide_on_messages
from bloodcell.exchange.receiver_rows import remove_receiver
from bloodcell.exchange.sending import send_results
from tests.exchange.conftest import Exchange
from tests.exchange.foreign_receivers import running
from tests.serving import serving

CODES = ["SNE"] * 60 + ["LY"] * 40 + ["MO"] * 6 + ["ERB"] * 3 + ["BL", "BL", "EO"]
CALLED = ["neutrophil"] * 60 + ["lymphocyte"] * 40 + ["monocyte"] * 6 + ["erythroblast"] * 3 + ["lymphocyte"] * 2
COMMENT = "|^~\\& <b>Ä</b> “quoted”\r\nnext line\x07 " + "long " * 780


def chain(exchange: Exchange) -> None:
    """Makes a slide whose result is sent unsigned, signed, corrected, withdrawn and restored."""
    lab = exchange.laboratory
    slide = lab.slide("S-1", age_months=480, sex="female", wbc_10e9_per_l=7.5, wbc_is_corrected=False,
                      acquired_at="2026-03-14 01:02:03+00")  # fmt: skip
    cells = lab.cells(slide, CODES)
    lab.call(cells, [*CALLED, "unclassified"])
    lab.label(cells[-3:], ["BL", "VLY", "eosinophil"])
    lab.count()
    lab.sign("S-1", 1)
    send_results(exchange.settings)
    lab.label(cells[-3:-2], ["lymphocyte"], at="2026-03-15 10:00+00")  # the blast is none
    lab.count()
    lab.sign("S-1", 3, "corrected", "no blast")
    send_results(exchange.settings)
    exchange.withdraw("withdraw")
    send_results(exchange.settings)
    exchange.withdraw("restore")
    send_results(exchange.settings)


def test_node_hl7_server_receives_the_status_chain(exchange: Exchange) -> None:
    with running("hl7_server.mjs") as (port, printed):
        exchange.receiver.port = port
        exchange.configure()
        chain(exchange)
        found = [json.loads(printed.readline()) for _ in range(4)]
    assert [each["status"] for each in found] == ["F", "C", "X", "C"]
    assert {(each["barcode"], each["patient"]) for each in found} == {("S-1", "p-17")}
    assert found[0]["first"] == ["26511-6", "55.0"]
    assert [(each["control"],) for each in found] == exchange.messages("control_id")
    assert {state for (state,) in exchange.messages("state")} == {"delivered"}


def test_what_leaves_is_valid_hl7_and_says_what_the_database_says(exchange: Exchange) -> None:
    exchange.configure("gets_unsigned = true")
    chain(exchange)
    assert len(exchange.receiver.received) == 4
    for text in exchange.receiver.received:
        assert parse_message(text, find_groups=True).validate()
        assert hl7.parse(text)["PID"][0][3] is not None
    stored = exchange.laboratory.rows(
        "SELECT class, round(percentage::numeric, 1)::text, n_cells::text FROM bloodcell.result_line "
        "WHERE barcode = 'S-1' AND version = 2 AND percentage IS NOT NULL "
        "AND (n_cells > 0 OR class NOT LIKE upper(class))"
    )
    shares = {(f[3].split("^")[3].removesuffix("_PERCENT").lower(), f[5]) for f in exchange.receiver.segments("OBX", 0)
              if f[3].split("^")[-3].endswith("_PERCENT")} - {("erythroblast", "2.8")}  # fmt: skip
    assert shares == {(name.lower(), share) for name, share, _ in stored}  # type: ignore[attr-defined]
    blasts = [f[5] for f in exchange.receiver.segments("OBX", 1) if f[3].startswith("26446-5")]
    assert blasts == ["0.0"]  # a receiver would keep the former 0.9 %


def test_a_comment_with_delimiters_escapes_and_ten_thousand_characters_arrives_as_it_was(exchange: Exchange) -> None:
    exchange.slide()
    with exchange.laboratory.database.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE bloodcell_owner")
        connection.exec_driver_sql(
            "WITH s AS (INSERT INTO bloodcell.desk_session (token_digest, person, roles, method, idle_s, expires_at) "
            "VALUES ('t', 'anna', '{reader}', 'local', 60, now()) RETURNING session_id) "
            "INSERT INTO bloodcell.slide_comment (slide_id, text, person, session_id, client_key) "
            "SELECT slide_id, %s, 'anna', session_id, gen_random_uuid() FROM bloodcell.slide, s, generate_series(1, 3)",
            (COMMENT,),
        )
    exchange.laboratory.sign("S-1", 1)
    exchange.send()
    message = hl7.parse(exchange.receiver.received[0])
    notes = [message.unescape(str(note[3])) for note in message.segments("NTE") if len(str(note)) > 3000]
    assert notes == [COMMENT.replace("\r\n", "\r")] * 3


@dataclass
class Server:
    """A running FHIR server."""

    url: str

    def search(self, what: str) -> list[dict[str, Any]]:
        found = httpx.get(f"{self.url}/{what}", trust_env=False).raise_for_status().json()
        return [entry["resource"] for entry in found.get("entry", ())]

    def history(self, resource: dict[str, Any]) -> list[dict[str, Any]]:
        return self.search(f"{resource['resourceType']}/{resource['id']}/_history")[::-1]


@pytest.fixture
def fhir(exchange: Exchange) -> Iterator[Server]:
    """A FHIR server that gets the laboratory's results, unsigned ones, too."""
    with running("fhir_server.mjs") as (port, _):
        path = exchange.settings.data_dir / "fhir.toml"
        path.write_text(
            f'[receivers.records]\nprotocol = "fhir"\nurl = "http://127.0.0.1:{port}/"\ngets_unsigned = true'
        )
        remove_receiver(exchange.laboratory.database, "lis")
        exchange.settings = exchange.settings.model_copy(update={"exchange_file": path})
        send_results(exchange.settings)
        yield Server(f"http://127.0.0.1:{port}")


def test_a_fhir_server_has_each_version_as_the_next_of_the_same_report(exchange: Exchange, fhir: Server) -> None:
    chain(exchange)
    found = exchange.laboratory.rows("SELECT state, last_answer FROM bloodcell.message ORDER BY message_id")
    assert found == [("delivered", "200")] * 4
    (report,) = fhir.search("DiagnosticReport")
    assert [each["status"] for each in fhir.history(report)] == ["final", "corrected", "entered-in-error", "corrected"]
    assert "conclusion" not in report
    blasts = next(each for each in fhir.search("Observation?code=26446-5"))
    values = [(each["status"], each["valueQuantity"]["value"]) for each in fhir.history(blasts)]
    assert values == [("final", 0.9), ("corrected", 0), ("entered-in-error", 0), ("corrected", 0)]
    assert len(fhir.search("Provenance?_count=50")) == 4
    assert {each["reference"].split("/")[0] for each in report["result"]} == {"Observation"}
    assert fhir.search("Patient") == []


def test_a_transaction_that_comes_twice_changes_nothing(exchange: Exchange, fhir: Server) -> None:
    exchange.slide()
    send_results(exchange.settings)
    before = {
        kind: len(fhir.search(f"{kind}?_count=200")) for kind in ("DiagnosticReport", "Observation", "Provenance")
    }
    with exchange.laboratory.database.begin() as connection:
        connection.exec_driver_sql("UPDATE bloodcell.outgoing_message SET state = 'waiting'")
    send_results(exchange.settings)
    (report,) = fhir.search("DiagnosticReport")
    assert report["status"] == "partial"
    assert {kind: len(fhir.search(f"{kind}?_count=200")) for kind in before} == before


def test_the_server_would_refuse_what_is_not_fhir(fhir: Server) -> None:
    wrong = {"resourceType": "DiagnosticReport", "id": "a", "status": "banana", "code": {"text": "x"}}
    entry = {"resource": wrong, "request": {"method": "PUT", "url": "DiagnosticReport/a"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = httpx.post(fhir.url, json=bundle, trust_env=False)
    assert answer.status_code == 422
    assert "banana" in answer.text


def test_what_a_server_refuses_waits_for_a_person_and_a_log_in_that_fails_is_tried_again(exchange: Exchange) -> None:
    answers: list[tuple[int, dict[str, Any]]] = [
        (401, {}),
        (503, {}),
        (302, {}),
        (422, OUTCOME),
        (200, FAILED_ENTRY),
        (200, {"resourceType": "Bundle"}),
        (202, {}),
        (200, DONE),
    ]
    with serving_answers(answers) as (url, received):
        path = exchange.settings.data_dir / "fhir.toml"
        token = exchange.settings.data_dir / "token"
        token.write_text("secret token\n")
        path.write_text(f'[receivers.records]\nprotocol = "fhir"\nurl = "{url}"\ntoken_file = "{token}"\nanswer_s = 2')
        remove_receiver(exchange.laboratory.database, "lis")
        exchange.settings = exchange.settings.model_copy(update={"exchange_file": path})
        send_results(exchange.settings)
        exchange.slide()
        exchange.laboratory.sign("S-1", 1)
        for told in ("answered 401", "answered 503", "answered 302"):
            tried(exchange, told)
        for answer in ("422 invalid: no such order", "412 conflict: other version"):
            (sent,) = send_results(exchange.settings)
            assert (sent.n_held, exchange.messages("last_answer")) == (1, [(answer,)])
            decide_on_messages(exchange.laboratory.database, MessageDecision("replay", "again", "anna"))
        tried(exchange, "answered 200, and not with the outcome of each entry")  # some page, not a FHIR server
        tried(exchange, "answered 202, and not")
        assert send_results(exchange.settings)[0].n_delivered == 1
    assert {headers["Authorization"] for headers in received} == {"Bearer secret token"}
    assert {headers["Content-Type"] for headers in received} == {"application/fhir+json; charset=utf-8"}


OUTCOME: dict[str, Any] = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": "invalid", "details": {"text": "no such order"}}],
}
DONE: dict[str, Any] = {"resourceType": "Bundle", "type": "transaction-response", "entry": []}
"""The server adds an entry for each one that it received."""
CONFLICT = {"resourceType": "OperationOutcome", "issue": [{"code": "conflict", "diagnostics": "other version"}]}
FAILED_ENTRY: dict[str, Any] = {**DONE, "entry": [{"response": {"status": "412", "outcome": CONFLICT}}]}


def tried(exchange: Exchange, told: str) -> None:
    """Sends, which has to fail with these words, and makes the message due again."""
    (sent,) = send_results(exchange.settings)
    assert told in sent.trouble
    exchange.at_once()


@contextmanager
def serving_answers(answers: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web server that gives these answers, one after the other; yields its address and the headers it received."""
    received: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(dict(self.headers))
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, document = answers[len(received) - 1]
            if document.get("type"):
                n_others = len(asked["entry"]) - len(document["entry"])
                others = [{"response": {"status": "201 Created"}}] * n_others
                document = {**document, "entry": [*others, *document["entry"]]}
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}/fhir", received
