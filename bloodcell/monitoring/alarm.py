"""Sends the alarm to a webhook: one JSON message, or a warning in the log if the webhook cannot be reached."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from bloodcell.errors import BloodcellError

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 10.0
_LONGEST_REASON: Final = 2_000


@dataclass(frozen=True, slots=True)
class Alarm:
    """What failed, and why.

    Attributes:
        dag_id: The Dag.
        run_id: Its run.
        task_id: The task that failed.
        reason: Why, for a person.
    """

    dag_id: str
    run_id: str
    task_id: str
    reason: str


def reason_of(error: BaseException | str | None) -> str:
    """Returns what an alarm says about an error: the text of bloodcell's own errors, only the type of others.

    The text of other errors can contain an SQL statement with its values, or an address with its password. The task's
    log has the whole text.
    """
    if isinstance(error, BloodcellError):
        text = str(error)
        return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
    what = type(error).__name__ if isinstance(error, BaseException) else "The task was stopped from outside"
    return f"{what}: see the log of the task."


def post_alarm(url: str, alarm: Alarm) -> bool:
    """Posts an alarm as JSON (`text`, `dag_id`, `run_id`, `task_id`, `reason`); returns whether it was delivered.

    A webhook that is unavailable, slow or wrong causes a warning in the log and never an error: the failure itself is
    recorded without it. The warning names only the host, because a webhook's address is often its password.

    Args:
        url: The webhook.
        alarm: What failed, and why.
    """
    text = f"bloodcell: {alarm.dag_id}, task {alarm.task_id}, run {alarm.run_id}: {alarm.reason}"
    try:
        # streamed, so that only the head of the response is read
        with httpx.stream("POST", url, json={"text": text, **asdict(alarm)}, timeout=_TIMEOUT_S) as response:
            delivered, problem = response.is_success, f"it returned status {response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        delivered, problem = False, type(error).__name__
    if not delivered:
        log.warning("The alarm was not delivered to %s (BLOODCELL_ALARM_URL): %s.", _host(url), problem)
    return delivered


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "the webhook"
    except ValueError:
        return "the webhook"
