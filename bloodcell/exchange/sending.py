"""Sends what waits in the outbox: each receiver's messages one after the other, those of a slide in their order.

An attempt is recorded as soon as it is answered, while the next message is on its way. A sender that is killed in
between sends such messages again under the same control ids, which is how a receiver knows that it has them.
"""

from __future__ import annotations

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
from bloodcell.exchange.recording import Recorded, Recorder
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
    exchange, keys = read_exchange_file(settings.exchange_file), IdentityKeys.of(settings)
    database = open_database(settings, keep=True)
    try:
        return _send(exchange, keys, database, open_database(settings), receiver, on_progress)
    finally:
        database.dispose()


def _send(
    exchange: ExchangeFile,
    keys: IdentityKeys,
    database: Database,
    locks: Database,
    receiver: str | None,
    on_progress: Callable[[str, int, int], None],
) -> list[Sent]:
    known = database.transact(lambda connection: keep_receivers(connection, exchange))
    if receiver is not None and receiver not in known:
        raise UnknownRecordError(
            f"No receiver is called {receiver!r}. Expected one of: {', '.join(known) or 'there is none'}."
        )
    database.transact(lambda connection: remove_expired(connection, keys))
    chosen = [name for name in known if receiver in (None, name)]
    return [_send_to(name, exchange, keys, database, locks, on_progress) for name in chosen]


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
    keys: IdentityKeys,
    database: Database,
    locks: Database,
    on_progress: Callable[[str, int, int], None],
) -> Sent:
    sent = Sent(name, n_left=database.transact(lambda connection: _n_waiting(connection, name)))
    if name not in exchange.receivers:
        sent.trouble = (
            "The exchange file (BLOODCELL_EXCHANGE_FILE) does not name it, so its messages wait. Next: add it there, "
            f"or bloodcell exchange remove {name}"
        )
        return sent
    n_before = sent.n_left
    with _taken(locks, name) as still_taken:
        if still_taken is None:
            sent.trouble = "Another sender is at work."
            return sent
        deadline = time.monotonic() + _LONGEST_S
        try:
            with _link_to(exchange, name) as link, Recorder(database) as recorder:
                for result in _due(database, name, keys, still_taken, recorder):
                    if time.monotonic() > deadline:
                        break
                    _deliver(recorder, link, result, sent)
                    n_done = sent.n_delivered + sent.n_held
                    on_progress(name, n_done, max(n_before, n_done))
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
    database: Database, name: str, keys: IdentityKeys, still_taken: Callable[[], None], recorder: Recorder
) -> Iterator[OutgoingResult]:
    """Yields the messages that are due; a message of a slide comes when those before it are delivered."""

    def read(connection: sa.Connection) -> list[OutgoingResult]:
        connection.execute(_SQL["supersede"], {"receiver": name})
        return read_outgoing(connection, connection.scalars(_SQL["due"], {"receiver": name, "n": _BATCH}).all(), keys)

    while True:
        recorder.flush()
        still_taken()
        if not (due := database.transact(read)):
            return
        yield from due


def _deliver(recorder: Recorder, link: Link, result: OutgoingResult, sent: Sent) -> None:
    started = datetime.now(UTC)
    failure: NoAnswerError | None = None
    try:
        attempt = Attempt("rejected", _CONFLICT, None) if result.has_conflict else link.deliver(result)
    except NoAnswerError as error:
        failure, attempt = error, Attempt("no_answer", str(error), None)
    recorder.put(Recorded(result.message_id, started, datetime.now(UTC), attempt))
    sent.n_delivered += attempt.outcome == "delivered"
    sent.n_held += attempt.outcome == "rejected"
    if failure is not None:
        raise failure


def _n_waiting(connection: sa.Connection, name: str) -> int:
    return int(connection.scalar(_SQL["n_waiting"], {"receiver": name}) or 0)
