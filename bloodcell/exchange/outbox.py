"""The outbox as a sender sees it: which messages are due, and whether one may still be sent."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import psycopg2
import sqlalchemy as sa

from bloodcell.errors import DatabaseUnavailableError
from bloodcell.exchange.outgoing_result import read_outgoing
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bloodcell.exchange.identities import IdentityKeys
    from bloodcell.exchange.outgoing_result import OutgoingResult
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("exchange/outbox.sql")
_BATCH: Final = 200
"""Messages whose content is read at once."""


@contextmanager
def taken_receiver(database: Database, name: str) -> Iterator[Callable[[int], str] | None]:
    """Makes this the only sender for a receiver; yields None if there is another one.

    What it yields otherwise says whether a message may be sent: yes, no, or conflict. It asks on the connection that
    keeps others away, and raises DatabaseUnavailableError if that was lost.
    """
    with database.connect() as connection:
        transaction = connection.begin()
        if connection.execute(_SQL["take"], {"receiver": name}).one_or_none() is None:
            yield None
            return
        cursor = connection.connection.cursor()  # without SQLAlchemy: a receiver waits for each of these questions

        def may_send(message_id: int) -> str:
            try:
                cursor.execute("SELECT bloodcell.may_send(%s)", (message_id,))
                found = cursor.fetchone()
            except psycopg2.Error as error:
                connection.invalidate(error)
                raise DatabaseUnavailableError(
                    f"The connection that keeps other senders from {name} was lost. Next: bloodcell exchange send"
                ) from error
            return str(found[0]) if found and found[0] else "no"

        yield may_send
        with suppress(sa.exc.DBAPIError):  # it only held a lock
            transaction.rollback()


def due_batches(
    database: Database, name: str, keys: IdentityKeys, flush: Callable[[], None]
) -> Iterator[Iterator[OutgoingResult]]:
    """Yields the messages that are due, some at a time; a message of a slide comes when those before it are delivered.

    Args:
        database: Where the outbox is.
        name: The receiver.
        keys: The keys of identities.
        flush: Has everything recorded that became of the messages so far.
    """
    passed_by: set[int] = set()

    def read(connection: sa.Connection) -> tuple[set[int], Iterator[OutgoingResult] | None]:
        connection.execute(_SQL["supersede"], {"receiver": name})
        due = connection.scalars(_SQL["due"], {"receiver": name, "n": _BATCH}).all()
        fresh = [message for message in due if message not in passed_by]
        if not fresh:
            return set(due), None
        connection.execute(_SQL["mark_taken"], {"messages": fresh})
        return set(due), read_outgoing(connection, fresh, keys)

    while True:
        flush()
        due, results = database.transact(read)
        if results is None:
            return
        yield results
        passed_by = due  # those that are due again were not sent, and will not be


def n_waiting(connection: sa.Connection, name: str) -> int:
    """Returns how many messages wait for a receiver."""
    return int(connection.scalar(_SQL["n_waiting"], {"receiver": name}) or 0)
