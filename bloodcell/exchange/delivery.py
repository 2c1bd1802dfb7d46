"""What it means to deliver a message, whatever the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from bloodcell.errors import BloodcellError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from bloodcell.exchange.outgoing_result import OutgoingResult

Outcome = Literal["delivered", "rejected", "no_answer"]


class NoAnswerError(BloodcellError):
    """The receiver cannot be reached, or does not answer as it should; the message is sent again later."""


@dataclass(frozen=True, slots=True)
class MadeMessage:
    """A message as a receiver gets it.

    Attributes:
        result: What it says.
        body: Its bytes, without a frame.
        n_entries: Parts of which the receiver says one by one what became of them.
    """

    result: OutgoingResult
    body: bytes
    n_entries: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one attempt to deliver a message.

    Attributes:
        outcome: delivered, rejected (a person has to look at it) or no_answer (it is sent again).
        answer: What the receiver answered, or what was wrong.
        sent: The message; None if it was not made.
    """

    outcome: Outcome
    answer: str
    sent: bytes | None


class Link(Protocol):
    """A way to a receiver. It connects when the first message is sent, and stays open for the others."""

    def make(self, result: OutgoingResult) -> MadeMessage:
        """Returns the message about a result."""

    def deliver(self, message: MadeMessage, meanwhile: Callable[[], None]) -> Attempt:
        """Sends one message, and returns what the receiver answered.

        Args:
            message: The message.
            meanwhile: Work of the sender's own, which raises nothing; it may be called while the receiver works.

        Raises:
            NoAnswerError: The receiver cannot be reached or does not answer.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
