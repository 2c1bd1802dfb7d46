"""Sends what waits in the outbox: each receiver's messages one after the other, those of a slide in their order.

An attempt is recorded as soon as it is answered. A sender that is killed in between sends the message again under the
same control id, which is how a receiver knows that it has it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.errors import DatabaseUnavailableError, UnknownRecordError
from bloodcell.exchange.delivery import Attempt, NoAnswerError
from bloodcell.exchange.exchange_file import Hl7Receiver, read_exchange_file
from bloodcell.exchange.fhir_link import FhirLink
from bloodcell.exchange.hl7_link import Hl7Link
from bloodcell.exchange.identities import IdentityKeys, remove_expired
from bloodcell.exchange.outgoing_result import read_outgoing
from bloodcell.presentation.numbers import counted
from bloodcell.storage.database import open_database
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from bloodcell.exchange.delivery import Link
    from bloodcell.exchange.exchange_file import ExchangeFile
    from bloodcell.exchange.outgoing_result import OutgoingResult
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("exchange/outbox.sql")
_BATCH: Final = 200
"""Messages whose content is read at once."""
_STATE_AFTER: Final = {"delivered": "delivered", "rejected": "held", "no_answer": "waiting"}
_CONFLICT: Final = "Not sent: orders for two patients have the slide's barcode. Find out whose it is."
_LONGEST_S: Final = 15 * 60
"""Seconds after which a sender ends, so that it does not keep its transaction open for long; the next one continues."""


@dataclass(slots=True)
class Sent:
    """What a sender did for one receiver.

    Attributes:
        receiver: Its name.
        n_delivered: Messages that were accepted.
        n_held: Messages that were rejected, and wait for a person.
        n_left: Messages that still wait.
        trouble: Why it stopped early; empty if it did not.
    """

    receiver: str
    n_delivered: int = 0
    n_held: int = 0
    n_left: int = 0
    trouble: str = ""

    def __str__(self) -> str:
        said = [f"{counted(self.n_delivered, 'message')} delivered"]
        if self.n_held:
            said.append(f"{self.n_held:,} rejected")
        if self.n_left:
            said.append(f"{self.n_left:,} waiting")
        return f"{self.receiver}: {', '.join(said)}.{' ' + self.trouble if self.trouble else ''}"


def send_results(
    settings: Settings, *, receiver: str | None = None, on_progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Sent]:
    """Sends what waits for each receiver of the exchange file, or for one, and returns what was done.

    Args:
        settings: The database and the exchange file.
        receiver: Only this one.
        on_progress: Called with the name of a receiver, the messages that are done, and all of them.

    Raises:
        UnknownRecordError: There is no such receiver.
        ConfigurationError: The exchange file, or a certificate that it names, is not valid.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    exchange, database = read_exchange_file(settings.exchange_file), open_database(settings)
    known = database.transact(lambda connection: keep_receivers(connection, exchange))
    if receiver is not None and receiver not in known:
        raise UnknownRecordError(
            f"No receiver is called {receiver!r}. Expected one of: {', '.join(known) or 'there is none'}."
        )
    keys = IdentityKeys.of(settings)
    database.transact(lambda connection: remove_expired(connection, keys))
    return [_send_to(name, exchange, database, keys, on_progress) for name in known if receiver in (None, name)]


def keep_receivers(connection: sa.Connection, exchange: ExchangeFile) -> list[str]:
    """Writes the receivers of the exchange file into the database, so that new results get messages for them.

    One that the file does not name any more keeps getting messages, which wait: a file that was not found must not lose
    a result. `bloodcell exchange remove` ends that.

    Returns:
        All receivers that get messages.
    """
    known = {row.name: row for row in connection.execute(_SQL["known_receivers"])}
    for name, each in exchange.receivers.items():
        row = known.get(name)
        if row and (row.protocol, row.gets_unsigned, row.removed_at) == (each.protocol, each.gets_unsigned, None):
            continue
        connection.execute(
            _SQL["add_receiver"], {"name": name, "protocol": each.protocol, "gets_unsigned": each.gets_unsigned}
        )
    return sorted(exchange.receivers.keys() | {name for name, row in known.items() if row.removed_at is None})


def _send_to(
    name: str,
    exchange: ExchangeFile,
    database: Database,
    keys: IdentityKeys,
    on_progress: Callable[[str, int, int], None],
) -> Sent:
    sent = Sent(name)
    if name not in exchange.receivers:
        sent.n_left = database.transact(lambda connection: _n_waiting(connection, name))
        sent.trouble = (
            "The exchange file (BLOODCELL_EXCHANGE_FILE) does not name it, so its messages wait. Next: add it there, "
            f"or bloodcell exchange remove {name}"
        )
        return sent
    with _taken(database, name) as still_taken:
        if still_taken is None:
            sent.trouble = "Another sender is at work."
            return sent
        deadline = time.monotonic() + _LONGEST_S
        try:
            with _link_to(exchange, name) as link:
                for result in _due(database, name, keys, still_taken):
                    if time.monotonic() > deadline:
                        break
                    _deliver(database, link, result, sent)
                    on_progress(name, sent.n_delivered + sent.n_held, sent.n_delivered + sent.n_held)
        except NoAnswerError as error:
            sent.trouble = f"{error} It is tried again later."
    sent.n_left = database.transact(lambda connection: _n_waiting(connection, name))
    return sent


@contextmanager
def _taken(database: Database, name: str) -> Iterator[Callable[[], None] | None]:
    """Makes this the only sender for a receiver; yields None if there is another one.

    What it yields otherwise raises DatabaseUnavailableError if that is no longer so, because the connection was lost.
    """
    with database.begin() as connection:
        if connection.execute(_SQL["take"], {"receiver": name}).one_or_none() is None:
            yield None
            return

        def check() -> None:
            try:
                connection.scalar(sa.text("SELECT 1"))
            except sa.exc.DBAPIError as error:
                raise DatabaseUnavailableError(
                    f"The connection that keeps other senders from {name} was lost. Next: bloodcell exchange send"
                ) from error

        yield check


def _link_to(exchange: ExchangeFile, name: str) -> AbstractContextManager[Link]:
    receiver = exchange.receivers[name]
    return Hl7Link(receiver, exchange) if isinstance(receiver, Hl7Receiver) else FhirLink(receiver, exchange)


def _due(
    database: Database, name: str, keys: IdentityKeys, still_taken: Callable[[], None]
) -> Iterator[OutgoingResult]:
    """Yields the messages that are due; a message of a slide comes when those before it are delivered."""

    def read(connection: sa.Connection) -> list[OutgoingResult]:
        connection.execute(_SQL["supersede"], {"receiver": name})
        return read_outgoing(connection, connection.scalars(_SQL["due"], {"receiver": name, "n": _BATCH}).all(), keys)

    while True:
        still_taken()
        if not (due := database.transact(read)):
            return
        yield from due


def _deliver(database: Database, link: Link, result: OutgoingResult, sent: Sent) -> None:
    started = datetime.now(UTC)
    failure: NoAnswerError | None = None
    try:
        attempt = Attempt("rejected", _CONFLICT, None) if result.has_conflict else link.deliver(result)
    except NoAnswerError as error:
        failure, attempt = error, Attempt("no_answer", str(error), None)
    database.transact(lambda connection: _record(connection, result, started, attempt))
    sent.n_delivered += attempt.outcome == "delivered"
    sent.n_held += _STATE_AFTER[attempt.outcome] == "held"
    if failure is not None:
        raise failure


def _record(connection: sa.Connection, result: OutgoingResult, started: datetime, attempt: Attempt) -> None:
    # a power cut may lose the last records, and the messages are sent again; waiting for the disk would double the time
    connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
    of_message = {"message_id": result.message_id}
    digest = hashlib.sha256(attempt.sent).hexdigest() if attempt.sent is not None else None
    connection.execute(
        _SQL["record_attempt"],
        {
            **of_message,
            "started_at": started,
            "outcome": attempt.outcome,
            "answer": attempt.answer,
            "sent_digest": digest,
        },
    )
    connection.execute(_SQL["record_outcome"], {**of_message, "state": _STATE_AFTER[attempt.outcome]})


def _n_waiting(connection: sa.Connection, name: str) -> int:
    return int(connection.scalar(_SQL["n_waiting"], {"receiver": name}) or 0)
