"""Delivers results to a receiver of HL7 version 2.5.1 over MLLP."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from bloodcell.exchange.client_tls import client_context
from bloodcell.exchange.delivery import Attempt, MadeMessage
from bloodcell.exchange.hl7_answer import read_answer
from bloodcell.exchange.mllp import ConnectionClosedError, MllpConnection
from bloodcell.exchange.oru_message import oru_message

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from bloodcell.exchange.exchange_file import ExchangeFile, Hl7Receiver
    from bloodcell.exchange.hl7_answer import Hl7Answer
    from bloodcell.exchange.outgoing_result import OutgoingResult

_CONNECT_S: Final = 10.0


class Hl7Link:
    """A connection to a receiver, opened when the first message is sent."""

    def __init__(self, receiver: Hl7Receiver, exchange: ExchangeFile) -> None:
        self._receiver = receiver
        self._exchange = exchange
        self._connection: MllpConnection | None = None

    def make(self, result: OutgoingResult) -> MadeMessage:
        """Returns the message about a result, ORU^R01."""
        return MadeMessage(result, oru_message(result, self._receiver, self._exchange, datetime.now(UTC)))

    def deliver(self, message: MadeMessage, meanwhile: Callable[[], None]) -> Attempt:
        """Sends a message and returns what the receiver answered.

        Answers to other messages are dropped: they are late, or repeated. An answer that neither accepts nor rejects
        is dropped, too.

        Args:
            message: The message.
            meanwhile: Called when it was sent, before the answer is read.

        Raises:
            NoAnswerError: The receiver cannot be reached or does not answer.
            ConfigurationError: A certificate of the exchange file cannot be read.
        """
        answer = self._exchange_once(message, meanwhile)
        return Attempt("delivered" if answer.is_accepted else "rejected", str(answer), message.body)

    def _exchange_once(self, message: MadeMessage, meanwhile: Callable[[], None]) -> Hl7Answer:
        """Returns the answer; many receivers close a connection after each answer, so a used one may be closed."""
        used = self._connection
        self._connection = None
        if used is not None:
            try:
                return self._exchanged(used, message, meanwhile)
            except ConnectionClosedError:
                pass  # under the same control id, the receiver knows the message if it has it
        return self._exchanged(self._connect(), message, meanwhile)

    def _exchanged(self, connection: MllpConnection, message: MadeMessage, meanwhile: Callable[[], None]) -> Hl7Answer:
        answer = connection.exchange(message.body, partial(_answer_to, message.result.control_id), meanwhile)
        if self._receiver.keep_open:
            self._connection = connection
        else:
            connection.close()
        return answer

    def _connect(self) -> MllpConnection:
        receiver = self._receiver
        return MllpConnection(
            receiver.host,
            receiver.port,
            context=self._tls() if receiver.tls else None,
            connect_s=min(_CONNECT_S, receiver.answer_s),
            answer_s=receiver.answer_s,
        )

    def _tls(self) -> ssl.SSLContext:
        to = self._receiver
        return client_context(f"{to.host}:{to.port}", to.ca_file, to.certificate_file, to.key_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()


def _answer_to(control_id: str, received: bytes) -> Hl7Answer | None:
    """Returns the answer to a message; None if these bytes are none, or answer another one."""
    answer = read_answer(received)
    is_answer = answer is not None and answer.control_id == control_id and (answer.is_accepted or answer.is_rejected)
    return answer if is_answer else None
