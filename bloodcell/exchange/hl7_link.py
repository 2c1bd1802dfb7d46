"""Delivers results to a receiver of HL7 version 2.5.1 over MLLP."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from bloodcell.errors import ConfigurationError
from bloodcell.exchange.delivery import Attempt
from bloodcell.exchange.hl7_answer import read_answer
from bloodcell.exchange.mllp import ConnectionClosedError, MllpConnection
from bloodcell.exchange.oru_message import oru_message

if TYPE_CHECKING:
    from types import TracebackType

    from bloodcell.exchange.exchange_file import ExchangeFile, Hl7Receiver
    from bloodcell.exchange.outgoing_result import OutgoingResult

_CONNECT_S: Final = 10.0


class Hl7Link:
    """A connection to a receiver, opened when the first message is sent."""

    def __init__(self, receiver: Hl7Receiver, exchange: ExchangeFile) -> None:
        self._receiver = receiver
        self._exchange = exchange
        self._connection: MllpConnection | None = None

    def deliver(self, result: OutgoingResult) -> Attempt:
        """Sends a result and returns what the receiver answered.

        Answers to other messages are dropped: they are late, or repeated. An answer that neither accepts nor rejects
        is dropped, too.

        Raises:
            NoAnswerError: The receiver cannot be reached or does not answer.
            ConfigurationError: A certificate of the exchange file cannot be read.
        """
        body = oru_message(result, self._receiver, self._exchange, datetime.now(UTC))
        answered = self._exchange_once(body, result.control_id)
        answer = read_answer(answered)
        is_accepted = answer is not None and answer.is_accepted
        return Attempt("delivered" if is_accepted else "rejected", str(answer), body)

    def _exchange_once(self, body: bytes, control_id: str) -> bytes:
        """Returns the answer; many receivers close a connection after each answer, so a used one may be closed."""
        used = self._connection
        self._connection = None
        if used is not None:
            try:
                return self._exchanged(used, body, control_id)
            except ConnectionClosedError:
                pass  # under the same control id, the receiver knows the message if it has it
        return self._exchanged(self._connect(), body, control_id)

    def _exchanged(self, connection: MllpConnection, body: bytes, control_id: str) -> bytes:
        answer = connection.exchange(body, lambda received: _answers(received, control_id))
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
            context=_tls(receiver) if receiver.tls else None,
            connect_s=min(_CONNECT_S, receiver.answer_s),
            answer_s=receiver.answer_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()


def _answers(received: bytes, control_id: str) -> bool:
    answer = read_answer(received)
    return answer is not None and answer.control_id == control_id and (answer.is_accepted or answer.is_rejected)


def _tls(receiver: Hl7Receiver) -> ssl.SSLContext:
    """Returns the context that checks the receiver's certificate and name."""
    try:
        context = ssl.create_default_context(cafile=receiver.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if receiver.certificate_file:
            context.load_cert_chain(receiver.certificate_file, receiver.key_file)
    except OSError as error:  # an SSLError is one, too
        raise ConfigurationError(
            f"A certificate for {receiver.host}:{receiver.port} cannot be read: {error.strerror or error}. Next: "
            "correct ca_file, certificate_file or key_file in the exchange file."
        ) from error
    return context
