"""Alarms reach a webhook; one that is unavailable, slow or wrong causes a warning and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloodcell.errors import CheckFailedError
from bloodcell.monitoring import alarm as alarms
from bloodcell.monitoring import post_alarm, reason_of
from bloodcell.monitoring.alarm import Alarm
from tests.monitoring.webhook import Webhook, listening

ALARM = Alarm("check_champion", "scheduled__1", "alarm", "agreement 80 %")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with listening() as found:
        yield found


def test_the_message_has_a_text_for_people_and_fields_for_machines(webhook: Webhook) -> None:
    assert post_alarm(webhook.url, ALARM)
    assert webhook.messages == [
        {
            "text": "bloodcell: check_champion, task alarm, run scheduled__1: agreement 80 %",
            "dag_id": "check_champion",
            "run_id": "scheduled__1",
            "task_id": "alarm",
            "reason": "agreement 80 %",
        }
    ]


def test_a_refusal_is_a_warning_without_the_address(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    webhook.status = 403
    assert not post_alarm(webhook.url, ALARM)
    assert "not delivered to 127.0.0.1 (BLOODCELL_ALARM_URL): it returned status 403" in caplog.text
    assert "secret-token" not in caplog.text


def test_a_webhook_that_never_responds_times_out(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alarms, "_TIMEOUT_S", 0.2)
    webhook.silent = True
    assert not post_alarm(webhook.url, ALARM)
    assert "ReadTimeout" in caplog.text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/hook", "no address", "ftp://127.0.0.1/x", "http://[::bad/", "http://a b/", ""]
)
def test_an_address_that_is_unreachable_or_invalid_is_a_warning(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not post_alarm(url, ALARM)
    assert "The alarm was not delivered" in caplog.text


def test_an_alarm_gives_only_the_type_of_an_error_that_is_not_bloodcells_own() -> None:
    assert reason_of(CheckFailedError("agreement 80 %")) == "agreement 80 %"
    assert reason_of(RuntimeError("password=hunter2")) == "RuntimeError: see the log of the task."
    assert reason_of(None) == "The task was stopped from outside: see the log of the task."
    assert len(reason_of(CheckFailedError("x" * 5_000))) == 2_000
