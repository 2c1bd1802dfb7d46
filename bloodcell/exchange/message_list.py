"""The receivers, and the messages that wait or were rejected, as views tell them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from datetime import datetime

    import sqlalchemy as sa

    from bloodcell.storage.database import Database

_SQL: Final = load_statements("exchange/message_list.sql")
MAX_SHOWN: Final = 1000
"""Messages that are listed; the receivers' counts say how many there are."""


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """A receiver and what waits for it.

    Attributes:
        receiver: Its name.
        protocol: hl7 or fhir.
        gets_unsigned: Whether it also gets results that nobody has signed.
        n_waiting: Messages that are to be sent.
        n_held: Messages that were rejected.
        n_delivered: Messages that were delivered.
        oldest_waiting_at: When the oldest of those that wait was made.
        last_delivered_at: When a message was last delivered.
    """

    receiver: str
    protocol: str
    gets_unsigned: bool
    n_waiting: int
    n_held: int
    n_delivered: int
    oldest_waiting_at: datetime | None
    last_delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """A message that waits to be sent, or was rejected and waits for a person.

    Attributes:
        message_id: Key of the message.
        receiver: Who it is for.
        slide_id: Key of the slide.
        barcode: The slide.
        version: The version that it reports or takes back.
        result_state: State of that version.
        kind: result or withdrawal.
        state: waiting or held.
        made_at: When it was made.
        n_attempts: How often it was sent.
        next_attempt_at: Earliest time of the next attempt; None: as soon as possible.
        last_answer: What the receiver answered last, or what was wrong; None before the first attempt.
        waits_for_quality: Whether it is not sent because the quality control holds the slide.
    """

    message_id: int
    receiver: str
    slide_id: int
    barcode: str
    version: int
    result_state: str
    kind: str
    state: str
    made_at: datetime
    n_attempts: int
    next_attempt_at: datetime | None
    last_answer: str | None
    waits_for_quality: bool


@dataclass(frozen=True, slots=True)
class MessageList:
    """Receivers, and their open messages: the rejected ones first."""

    receivers: tuple[ReceiverState, ...]
    messages: tuple[OpenMessage, ...]


def read_messages(database: Database) -> MessageList:
    """Returns the receivers and their open messages; the login may be one that reads only views."""

    def read(connection: sa.Connection) -> MessageList:
        receivers = connection.execute(_SQL["receivers"])
        messages = connection.execute(_SQL["open_messages"], {"n": MAX_SHOWN})
        return MessageList(
            tuple(ReceiverState(**row._mapping) for row in receivers),
            tuple(OpenMessage(**row._mapping) for row in messages),
        )

    return database.transact(read, patience_s=0)
