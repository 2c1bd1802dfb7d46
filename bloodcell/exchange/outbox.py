"""The outbox as a sender sees it: which messages are due, and whether one may still be sent."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import psycopg2
import sqlalchemy as sa

from bloodcell.errors import DatabaseUnavailableError
from bloodcell.exchange.outgoing_result import read_outgoing
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bloodcell.exchange.identities import IdentityKeys
    from bloodcell.exchange.outgoing_result import OutgoingResult
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("exchange/outbox.sql")
_BATCH: Final = 500
"""Messages whose content is read at once."""
_AT_ONCE: Final = 16
"""Messages that are asked about at once."""
_ANSWER_HOLDS_S: Final = 0.02
"""Seconds for which an answer holds: a decision is hardly older when it comes over the network."""


@contextmanager
def taken_receiver(database: Database, name: str) -> Iterator[Permission | None]:
    """Makes this the only sender for a receiver; yields None if there is another one.

    What it yields otherwise says whether a message may be sent.
    """
    with database.connect() as connection:
        transaction = connection.begin()
        if connection.execute(_SQL["take"], {"receiver": name}).one_or_none() is None:
            yield None
            return
        yield Permission(connection, name)
        with suppress(sa.exc.DBAPIError):  # it only held a lock
            transaction.rollback()


class Permission:
    """Whether messages may be sent, asked on the connection that keeps other senders away.

    A question is about some messages at a time, and its answers hold for a moment: a quick receiver gets several
    messages for one question, a slow one none that was asked about long ago.
    """

    def __init__(self, connection: sa.Connection, receiver: str) -> None:
        self._connection = connection
        self._cursor = connection.connection.cursor()  # without SQLAlchemy: a receiver waits for each question
        self._receiver = receiver
        self._expected: Sequence[int] = ()
        self._answers: dict[int, str] = {}
        self._answered_until = 0.0

    def expect(self, messages: Sequence[int]) -> None:
        """Takes the messages that are asked about next, in their order."""
        self._expected, self._answers = messages, {}

    def may_send(self, message_id: int) -> str:
        """Returns yes, no, or conflict.

        Raises:
            DatabaseUnavailableError: The connection was lost.
        """
        if message_id not in self._answers or time.monotonic() > self._answered_until:
            place = self._expected.index(message_id)
            self._answered_until = time.monotonic() + _ANSWER_HOLDS_S
            self._answers = self._asked(self._expected[place : place + _AT_ONCE])
        return self._answers[message_id]

    def _asked(self, messages: Sequence[int]) -> dict[int, str]:
        try:
            self._cursor.execute("SELECT * FROM bloodcell.may_send(%s)", (list(messages),))
            found = dict(self._cursor.fetchall())
        except psycopg2.Error as error:
            self._connection.invalidate(error)
            raise DatabaseUnavailableError(
                f"The connection that keeps other senders from {self._receiver} was lost. Next: bloodcell exchange send"
            ) from error
        return {message: found.get(message, "no") for message in messages}


def due_batches(
    database: Database, name: str, keys: IdentityKeys, flush: Callable[[], None]
) -> Iterator[tuple[Sequence[int], Iterator[OutgoingResult]]]:
    """Yields the keys and the content of messages that are due, some at a time.

    A message of a slide comes when those before it are delivered.

    Args:
        database: Where the outbox is.
        name: The receiver.
        keys: The keys of identities.
        flush: Has everything recorded that became of the messages so far.
    """
    passed_by: set[int] = set()

    def read(connection: sa.Connection) -> tuple[set[int], list[int], Iterator[OutgoingResult]]:
        connection.execute(_SQL["supersede"], {"receiver": name})
        due = connection.scalars(_SQL["due"], {"receiver": name, "n": _BATCH}).all()
        fresh = [message for message in due if message not in passed_by]
        if not fresh:
            return set(due), [], iter(())
        connection.execute(_SQL["mark_taken"], {"messages": fresh})
        return set(due), fresh, read_outgoing(connection, fresh, keys)

    while True:
        flush()
        due, messages, results = database.transact(read)
        if not messages:
            return
        yield messages, results
        passed_by = due  # those that are due again were not sent, and will not be


def n_waiting(connection: sa.Connection, name: str) -> int:
    """Returns how many messages wait for a receiver."""
    return int(connection.scalar(_SQL["n_waiting"], {"receiver": name}) or 0)
