"""A webhook hears of an alarm, and one that is away, slow or wrong makes nothing worse."""

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


def test_the_message_has_a_text_for_people_and_its_parts_for_machines(webhook: Webhook) -> None:
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


def test_a_refusal_is_a_warning_that_does_not_tell_the_address(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.status = 403
    assert not post_alarm(webhook.url, ALARM)
    assert "not delivered to 127.0.0.1 (BLOODCELL_ALARM_URL): it answered 403" in caplog.text
    assert "secret-token" not in caplog.text


def test_a_webhook_that_never_answers_is_given_up(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alarms, "_TIMEOUT_S", 0.2)
    webhook.silent = True
    assert not post_alarm(webhook.url, ALARM)
    assert "ReadTimeout" in caplog.text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/hook", "no address", "ftp://127.0.0.1/x", "http://[::bad/", "http://a b/", ""]
)
def test_an_address_that_is_away_or_none_is_a_warning(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not post_alarm(url, ALARM)
    assert "The alarm was not delivered" in caplog.text


def test_of_an_error_that_is_not_ours_only_its_kind_is_said_outside() -> None:
    assert reason_of(CheckFailedError("agreement 80 %")) == "agreement 80 %"
    assert reason_of(RuntimeError("password=hunter2")) == "RuntimeError: see the log of the task."
    assert reason_of(None) == "The task was ended from outside: see the log of the task."
    assert len(reason_of(CheckFailedError("x" * 5_000))) == 2_000
