"""What people decide about messages that were rejected or lost: send again, never send, send from the beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.errors import AlreadyDoneError, ConfigurationError, UnknownRecordError
from bloodcell.storage.statements import load_statements
from bloodcell.visible_text import visible_lines

if TYPE_CHECKING:
    from datetime import datetime

    from bloodcell.storage.database import Database

Action = Literal["replay", "skip"]

_SQL: Final = load_statements("exchange/outbox.sql")


@dataclass(frozen=True, slots=True)
class MessageDecision:
    """What a person decides.

    Attributes:
        action: replay: send again; skip: never send.
        reason: Why.
        requested_by: The person.
        receiver: Only messages for this one; empty: for all.
        barcode: Only messages of this slide; empty: all that were rejected.
    """

    action: Action
    reason: str
    requested_by: str
    receiver: str = ""
    barcode: str = ""


def decide_on_messages(database: Database, decision: MessageDecision) -> int:
    """Carries a decision out, and returns how many messages it is about.

    Replay is for messages that were rejected, and for all of a slide, delivered ones included; skip is for messages
    that have not been delivered.

    Raises:
        UnknownRecordError: There is no such slide or receiver among the messages.
        AlreadyDoneError: No message is in a state that the decision is for.
        ConfigurationError: The reason is empty, or has characters that nobody sees.
    """
    reason = decision.reason.strip()
    if not reason or visible_lines(reason) != reason:
        raise ConfigurationError("Expected a reason in words. Received one that is empty or has invisible characters.")
    return database.transact(lambda connection: _decide(connection, decision, reason))


def _decide(connection: sa.Connection, decision: MessageDecision, reason: str) -> int:
    about = {"receiver": decision.receiver, "barcode": composed(decision.barcode)}
    found = connection.execute(_SQL["find"], about).all()
    if not found and decision.barcode:
        raise UnknownRecordError(
            f"No message is about slide {decision.barcode!r}. Next: bloodcell exchange status lists those that wait."
        )
    states = ("held", "delivered", "skipped") if decision.action == "replay" else ("held", "waiting")
    chosen = [row for row in found if row.state in states]
    if not chosen:
        raise AlreadyDoneError(
            "No message was rejected."
            if not decision.barcode
            else f"No message of slide {decision.barcode} is "
            f"{' or '.join(states)}; they are {', '.join(sorted({row.state for row in found}))}."
        )
    for row in chosen:
        values = {"message_id": row.message_id, "action": decision.action, "reason": reason}
        connection.execute(_SQL["act"], {**values, "requested_by": decision.requested_by})
        state = "waiting" if decision.action == "replay" else "skipped"
        connection.execute(_SQL["set_state"], {"message_id": row.message_id, "state": state})
    return len(chosen)


def send_from(database: Database, receiver: str, since: datetime) -> int:
    """Makes messages for a receiver of the results that were signed since a moment, and returns how many are new.

    Raises:
        UnknownRecordError: There is no such receiver.
    """

    def queue(connection: sa.Connection) -> int:
        _check_receiver(connection, receiver)
        statement = sa.text("SELECT bloodcell.queue_results_since(:receiver, :since)")
        return int(connection.scalar(statement, {"receiver": receiver, "since": since}) or 0)

    return database.transact(queue)


def remove_receiver(database: Database, receiver: str) -> None:
    """Ends that a receiver gets messages of new results; those that wait stay.

    Raises:
        UnknownRecordError: There is no such receiver.
    """

    def remove(connection: sa.Connection) -> None:
        _check_receiver(connection, receiver)
        connection.execute(_SQL["remove_receiver"], {"name": receiver})

    database.transact(remove)


def _check_receiver(connection: sa.Connection, receiver: str) -> None:
    known = {row.name for row in connection.execute(_SQL["known_receivers"]) if row.removed_at is None}
    if receiver not in known:
        raise UnknownRecordError(
            f"No receiver is called {receiver!r}. Expected one of: {', '.join(sorted(known)) or 'there is none'}."
        )
