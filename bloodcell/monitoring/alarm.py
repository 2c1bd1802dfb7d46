"""Whoever is to be woken hears of it: one JSON message to a webhook, or a warning in the log where it is away."""

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
        reason: For a person.
    """

    dag_id: str
    run_id: str
    task_id: str
    reason: str


def reason_of(error: BaseException | str | None) -> str:
    """Returns what may be said of an error outside: all of our own, of another only its kind.

    Another's text can hold a statement with its values, or an address with its password; the task's log has it all.
    """
    if isinstance(error, BloodcellError):
        text = str(error)
        return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
    what = type(error).__name__ if isinstance(error, BaseException) else "The task was ended from outside"
    return f"{what}: see the log of the task."


def post_alarm(url: str, alarm: Alarm) -> bool:
    """Posts an alarm as JSON (`text`, `dag_id`, `run_id`, `task_id`, `reason`); returns whether it was taken.

    A webhook that is away, slow or wrong is a warning in the log and never an error: what failed has failed already,
    and its rows and its red task are there without it. The warning names the host alone: a webhook's address is often
    its password.
    """
    text = f"bloodcell: {alarm.dag_id}, task {alarm.task_id}, run {alarm.run_id}: {alarm.reason}"
    try:
        # streamed, so that nothing of the answer but its head is waited for or kept
        with httpx.stream("POST", url, json={"text": text, **asdict(alarm)}, timeout=_TIMEOUT_S) as response:
            taken, answer = response.is_success, f"it answered {response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        taken, answer = False, type(error).__name__
    if not taken:
        log.warning("The alarm was not delivered to %s (BLOODCELL_ALARM_URL): %s.", _host(url), answer)
    return taken


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "the webhook"
    except ValueError:
        return "the webhook"
