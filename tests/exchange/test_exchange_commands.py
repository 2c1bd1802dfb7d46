"""`bloodcell exchange` as people use it: what is shown, the exit statuses, and the next steps."""

from __future__ import annotations

import json
import tomllib

import pytest
from typer.testing import CliRunner, Result

from bloodcell.cli import app
from bloodcell.exchange.exchange_file import EXAMPLE, read_exchange_file
from tests.exchange.conftest import Exchange
from tests.exchange.hl7_receiver import acknowledged


def run(exchange: Exchange, *arguments: str, command: str = "exchange") -> Result:
    result = CliRunner().invoke(app, [command, *arguments], env=exchange.settings.as_variables())
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_example_is_a_valid_file_with_both_protocols() -> None:
    found = read_exchange_file(EXAMPLE)
    assert [each.protocol for each in found.receivers.values()] == ["hl7", "fhir"]
    assert CliRunner().invoke(app, ["exchange", "example"]).output == EXAMPLE.read_text()
    assert tomllib.loads(EXAMPLE.read_text())["orders"]["port"] == 2576


def test_sending_says_what_was_sent_and_that_nothing_waits(exchange: Exchange) -> None:
    assert (run(exchange, "send").exit_code, run(exchange, "status").exit_code) == (3, 0)
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    shown = run(exchange, "status")
    assert (shown.exit_code, "S-1" in shown.output, "2 final" in shown.output) == (0, True, True)
    sent = run(exchange, "send")
    assert (sent.exit_code, "lis: 1 message delivered." in sent.output) == (0, True)


def test_a_rejected_message_is_shown_with_its_answer_and_sent_again(exchange: Exchange) -> None:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message, "AE", "unknown order")]
    assert run(exchange, "send").exit_code == 1
    shown = run(exchange, "status")
    assert shown.exit_code == 1
    assert "AE unknown order" in shown.output
    assert "Next: bloodcell exchange replay --reason R, or skip --reason R" in " ".join(shown.output.split())
    document = json.loads(run(exchange, "status", "--json").output)
    assert (document["receivers"][0]["n_held"], document["messages"][0]["barcode"]) == (1, "S-1")
    exchange.receiver.answer = lambda message: [acknowledged(message)]
    again = run(exchange, "replay", "--reason", "the order is known", "--by", "anna")
    assert "1 message will be sent. Next: bloodcell exchange send" in again.output
    assert run(exchange, "send").exit_code == 0
    assert exchange.messages("state", "n_attempts") == [("delivered", 2)]


def test_a_receiver_is_removed_once_the_file_does_not_name_it(exchange: Exchange) -> None:
    refused = run(exchange, "remove", "lis")
    assert (refused.exit_code, "still names lis" in " ".join(refused.output.split())) == (2, True)
    exchange.settings = exchange.settings.model_copy(update={"exchange_file": None})
    assert "does not name it" in run(exchange, "send").output
    assert run(exchange, "remove", "lis").exit_code == 0
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    assert exchange.messages("state") == []


@pytest.mark.parametrize("arguments", [["replay", "--reason", "r", "--since", "2026-01-01"], ["export"]])
def test_wrong_usage_is_told(exchange: Exchange, arguments: list[str]) -> None:
    if arguments == ["export"]:
        result = run(exchange, "--from", "2026-02-01", "--to", "2026-01-01", command="export")
    else:
        result = run(exchange, *arguments)
    assert result.exit_code == 2
