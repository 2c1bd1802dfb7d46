"""Attempts are recorded by a thread while the next messages are on their way.

One transaction records whatever has been answered in a fifth of a second, so that the disk does not set the pace. A
sender that is killed in between repeats these messages, a hundred at most, under the same control ids.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import sqlalchemy as sa

from bloodcell.exchange.delivery import NoAnswerError
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from bloodcell.exchange.delivery import Attempt
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("exchange/recording.sql")
_STATE_AFTER: Final = {"delivered": "delivered", "rejected": "held", "no_answer": "waiting"}
_MOST: Final = 100
"""Attempts that are not recorded yet, at most: what a sender that is killed repeats."""
_PAUSE_S: Final = 0.2
"""Seconds between two transactions, each of which costs as much as a message."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An attempt that was answered, or given up.

    Attributes:
        message_id: The message.
        started_at: When it was sent.
        ended_at: When it was answered.
        attempt: What became of it.
    """

    message_id: int
    started_at: datetime
    ended_at: datetime
    attempt: Attempt


class Recorder:
    """Records attempts in the order in which they were made; what it raises, the next call raises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._waiting: list[Recorded] = []
        self._n_open = 0  # those that wait, and those of the transaction at work
        self._is_flushing = False
        self._is_ending = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def put(self, recorded: Recorded) -> None:
        """Has an attempt recorded soon; waits while too many are not recorded yet.

        Raises:
            DatabaseUnavailableError: Earlier attempts could not be recorded.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._n_open < _MOST or self._failure is not None)
            self._raise_failure()
            self._waiting.append(recorded)
            self._n_open += 1
            if self._n_open == _MOST:
                self._changed.notify_all()

    def flush(self) -> None:
        """Waits until everything is recorded.

        Raises:
            DatabaseUnavailableError: Attempts could not be recorded.
        """
        with self._changed:
            self._is_flushing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._n_open == 0)
            self._is_flushing = False
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                self._changed.wait_for(self._is_wanted, timeout=_PAUSE_S)
                taken, self._waiting, is_last = self._waiting, [], self._is_ending
            failure = self._recorded(taken) if taken and self._failure is None else None
            with self._changed:
                self._failure = self._failure or failure
                self._n_open -= len(taken)
                self._changed.notify_all()

    def _is_wanted(self) -> bool:
        """Returns whether somebody waits for a transaction."""
        return self._is_ending or (bool(self._waiting) and (self._is_flushing or self._n_open >= _MOST))

    def _recorded(self, attempts: list[Recorded]) -> Exception | None:
        """Records attempts, and returns what was raised."""
        try:
            self._database.transact(lambda connection: record(connection, attempts))
        except Exception as error:  # told by the next call
            return error
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join()
        if error is None or isinstance(error, NoAnswerError):  # what was not recorded matters more
            self._raise_failure()


def record(connection: sa.Connection, attempts: list[Recorded]) -> None:
    """Writes attempts, and what became of their messages."""
    # a power cut may lose the last records, and the messages are sent again
    connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
    connection.execute(
        _SQL["record"],
        {
            "messages": [each.message_id for each in attempts],
            "started": [each.started_at for each in attempts],
            "ended": [each.ended_at for each in attempts],
            "outcomes": [each.attempt.outcome for each in attempts],
            "answers": [each.attempt.answer for each in attempts],
            "digests": [_digest(each.attempt.sent) for each in attempts],
            "states": [_STATE_AFTER[each.attempt.outcome] for each in attempts],
        },
    )


def _digest(sent: bytes | None) -> str | None:
    return None if sent is None else hashlib.sha256(sent).hexdigest()
