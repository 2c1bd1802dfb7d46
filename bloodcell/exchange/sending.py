"""Sends what waits in the outbox: each receiver's messages one after the other, those of a slide in their order.

The next message is made while the receiver works on the one before, and attempts are recorded some at a time. A sender
that is killed in between sends such messages again under the same control ids, which is how a receiver knows that it
has them. Whether a message may still be sent is asked directly before it leaves.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bloodcell.errors import BloodcellError, RetryLaterError
from bloodcell.exchange.delivery import Attempt, NoAnswerError
from bloodcell.exchange.exchange_file import Hl7Receiver, read_exchange_file
from bloodcell.exchange.fhir_link import FhirLink
from bloodcell.exchange.hl7_link import Hl7Link
from bloodcell.exchange.identities import IdentityKeys, remove_expired
from bloodcell.exchange.making_ahead import MadeAhead
from bloodcell.exchange.outbox import due_batches, n_waiting, taken_receiver
from bloodcell.exchange.receiver_rows import check_receiver, keep_receivers
from bloodcell.exchange.recording import Recorded, Recorder
from bloodcell.presentation.numbers import counted
from bloodcell.storage.database import open_database
from bloodcell.visible_text import visible_line

if TYPE_CHECKING:
    from bloodcell.exchange.delivery import Link, MadeMessage
    from bloodcell.exchange.exchange_file import ExchangeFile
    from bloodcell.exchange.outgoing_result import OutgoingResult
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_NOT_SENT: Final = {
    "conflict": "Not sent: orders for two patients have the slide's barcode. Have the wrong one cancelled.",
    "patient": "Not sent: the receiver has the slide under a patient whom bloodcell does not know any more. Have the "
    "order sent again, then replay.",
}
_LONGEST_S: Final = 15 * 60
"""Seconds after which a sender ends, so that it does not keep its transaction open for long; the next one continues."""
_SHORT: Final = 2
"""Letters of a word that is left in an answer, whatever the patient's name is."""
_MOST_IN_A_ROW: Final = 20
"""Rejections in a row after which a receiver is left alone: it is not the messages that are wrong."""


@dataclass(slots=True)
class Sent:
    """What a sender did for one receiver.

    Attributes:
        receiver: Its name.
        n_delivered: Messages that were accepted.
        n_held: Messages that were rejected, and wait for a person.
        n_left: Messages that still wait.
        trouble: Why it stopped early; empty if it did not.
        needs_correction: Whether the configuration has to be corrected first; it is not enough to wait.
        n_in_a_row: Rejections since the last delivery.
    """

    receiver: str
    n_delivered: int = 0
    n_held: int = 0
    n_left: int = 0
    trouble: str = ""
    needs_correction: bool = False
    n_in_a_row: int = 0

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
    if receiver is not None:
        check_receiver(receiver, known)
    chosen = [name for name in known if receiver in (None, name)]
    ends_at, sent = time.monotonic() + _LONGEST_S, []
    for place, name in enumerate(chosen):
        now = time.monotonic()
        deadline = now + (ends_at - now) / (len(chosen) - place)  # a slow receiver leaves the others their share
        of_one = Sent(name)
        try:
            database.transact(lambda connection: remove_expired(connection, keys))
            _send_to(of_one, exchange, keys, database, locks, deadline, on_progress)
        except RetryLaterError:
            raise
        except BloodcellError as error:
            of_one.trouble, of_one.needs_correction = str(error), True
        of_one.n_left = database.transact(lambda connection, name=name: n_waiting(connection, name))  # type: ignore[misc]
        sent.append(of_one)
    return sent


def _send_to(
    sent: Sent,
    exchange: ExchangeFile,
    keys: IdentityKeys,
    database: Database,
    locks: Database,
    deadline: float,
    on_progress: Callable[[str, int, int], None],
) -> None:
    name = sent.receiver
    if name not in exchange.receivers:
        sent.trouble = (
            "The exchange file (BLOODCELL_EXCHANGE_FILE) does not name it, so its messages wait. Next: add it there, "
            f"or bloodcell exchange remove {name}"
        )
        return
    n_before = database.transact(lambda connection: n_waiting(connection, name))
    with taken_receiver(locks, name) as permission:
        if permission is None:
            sent.trouble = "Another sender is at work."
            return
        names_patients = _names_patients(exchange, name)
        try:
            with _link_to(exchange, name) as link, Recorder(database) as recorder:
                for messages, results in due_batches(database, name, keys, recorder.flush):
                    permission.expect(messages)
                    ahead = MadeAhead(results, link.make)
                    for message in ahead:
                        if time.monotonic() > deadline:
                            return
                        may = permission.may_send(message.result.message_id)
                        if may == "yes" and names_patients and message.result.lacks_its_patient:
                            may = "patient"
                        if may != "no":
                            _deliver(recorder, link, message, _NOT_SENT.get(may), sent, ahead.make_next)
                        n_done = sent.n_delivered + sent.n_held
                        on_progress(name, n_done, max(n_before, n_done))
        except NoAnswerError as error:
            sent.trouble = f"{error} It is tried again later."


def _names_patients(exchange: ExchangeFile, name: str) -> bool:
    """Returns whether a receiver gets what orders say of patients."""
    receiver = exchange.receivers[name]
    if isinstance(receiver, Hl7Receiver):
        return receiver.gets_identity
    return receiver.patient_system is not None


def _link_to(exchange: ExchangeFile, name: str) -> AbstractContextManager[Link]:
    receiver = exchange.receivers[name]
    return Hl7Link(receiver, exchange) if isinstance(receiver, Hl7Receiver) else FhirLink(receiver, exchange)


def _deliver(
    recorder: Recorder,
    link: Link,
    message: MadeMessage,
    not_sent: str | None,
    sent: Sent,
    meanwhile: Callable[[], None],
) -> None:
    started, result = datetime.now(UTC), message.result
    failure: NoAnswerError | None = None
    try:
        attempt = Attempt("rejected", not_sent, None) if not_sent else link.deliver(message, meanwhile)
    except NoAnswerError as error:
        failure, attempt = error, Attempt("no_answer", str(error), None)
    if not_sent is None:
        attempt = replace(attempt, answer=_without_patient(visible_line(attempt.answer), result))
    recorder.put(Recorded(result.message_id, started, datetime.now(UTC), attempt))
    sent.n_delivered += attempt.outcome == "delivered"
    sent.n_held += attempt.outcome == "rejected"
    sent.n_in_a_row = sent.n_in_a_row + 1 if attempt.outcome == "rejected" and not_sent is None else 0
    if failure is not None:
        raise failure
    if sent.n_in_a_row >= _MOST_IN_A_ROW:
        raise NoAnswerError(f"{_MOST_IN_A_ROW} messages in a row were rejected, so the others were not sent.")


def _without_patient(answer: str, result: OutgoingResult) -> str:
    """Returns an answer without what the order says of the patient, which a receiver may repeat in it."""
    if result.patient is None:
        return answer
    parts = {part for field in result.patient.fields for part in re.split(r"[^\w-]+", field) if len(part) > _SHORT}
    for part in sorted(parts, key=len, reverse=True):
        answer = re.sub(re.escape(part), "…", answer, flags=re.IGNORECASE)
    return answer
