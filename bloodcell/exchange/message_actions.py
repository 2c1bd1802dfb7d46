"""What people decide about messages that were rejected or lost: send again, never send, send from the beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.errors import AlreadyDoneError, ConfigurationError, UnknownRecordError
from bloodcell.exchange.receiver_rows import check_receiver_row
from bloodcell.storage.statements import load_statements
from bloodcell.visible_text import has_invisible

if TYPE_CHECKING:
    from datetime import datetime

    from bloodcell.storage.database import Database

Action = Literal["replay", "skip"]

_SQL: Final = load_statements("exchange/message_actions.sql")
_ACT: Final = sa.text("SELECT bloodcell.decide_on_messages(:messages, :action, :reason, :person)")


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

    Replay is for messages that were rejected, and, of a slide, for the newest one that each receiver has; skip is for
    messages that were rejected, and for results of a slide that wait.

    Raises:
        UnknownRecordError: There is no such slide or receiver among the messages.
        AlreadyDoneError: No message is in a state that the decision is for.
        ConfigurationError: The reason is empty, or has characters that nobody sees.
    """
    reason = decision.reason.strip()
    if not reason or has_invisible(reason, lines=True):
        raise ConfigurationError("Expected a reason in words. Received one that is empty or has invisible characters.")
    return database.transact(lambda connection: _decide(connection, decision, reason))


def _decide(connection: sa.Connection, decision: MessageDecision, reason: str) -> int:
    about = {"receiver": decision.receiver, "barcode": composed(decision.barcode)}
    found = connection.execute(_SQL["find"], about).all()
    if not found and decision.barcode:
        raise UnknownRecordError(
            f"No message is about slide {decision.barcode!r}. Next: bloodcell exchange status lists those that wait."
        )
    chosen = [row for row in found if _is_about(decision, row)]
    if not chosen:
        raise AlreadyDoneError(
            "No message was rejected."
            if not decision.barcode
            else f"No message of slide {decision.barcode} is one to {decision.action}; they are "
            f"{', '.join(sorted({row.state for row in found}))}."
        )
    asked = {"messages": [row.message_id for row in chosen]}
    connection.execute(_SQL["lock_messages"], asked)
    connection.execute(_ACT, {**asked, "action": decision.action, "reason": reason, "person": decision.requested_by})
    return len(chosen)


def _is_about(decision: MessageDecision, row: sa.Row[Any]) -> bool:
    """Returns whether a decision is about a message: a withdrawal that waits is not skipped with the results."""
    if row.state == "held":
        return True
    if decision.action == "replay":
        return bool(row.is_newest)
    return bool(row.state == "waiting" and row.kind == "result")


def send_from(database: Database, receiver: str, since: datetime, *, reason: str, requested_by: str) -> int:
    """Makes messages for a receiver of the results that were signed since a moment, and returns how many are new.

    A withdrawal that the receiver missed is sent, too.

    Args:
        database: Where the outbox is.
        receiver: Its name.
        since: The moment.
        reason: Why.
        requested_by: The person.

    Raises:
        UnknownRecordError: There is no such receiver.
    """
    asked = {"receiver": receiver, "since": since, "reason": reason, "person": requested_by}
    statement = sa.text("SELECT bloodcell.queue_results_since(:receiver, :since, :reason, :person)")

    def queue(connection: sa.Connection) -> int:
        check_receiver_row(connection, receiver)
        return int(connection.scalar(statement, asked) or 0)

    n_new = 0
    while n := database.transact(queue):  # some slides at a time, which nobody can sign meanwhile
        n_new += n
    return n_new
