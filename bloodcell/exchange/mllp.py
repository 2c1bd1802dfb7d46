"""Messages over MLLP, the framing in which HL7 v2 travels over TCP: one connection, one message at a time.

Source: HL7 Transport Specification MLLP, release 1 (a message stands between 0x0B and 0x1C 0x0D).
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar

from bloodcell.exchange.delivery import NoAnswerError

Answer = TypeVar("Answer")

START: Final = b"\x0b"
END: Final = b"\x1c\r"
MAX_ANSWER_BYTES: Final = 64 * 1024
"""An acknowledgement has a few hundred bytes; a receiver that sends more is not one."""


class ConnectionClosedError(NoAnswerError):
    """The receiver closed the connection without a byte of an answer."""


def framed(body: bytes) -> bytes:
    """Returns a message with its frame."""
    return START + body + END


class MllpConnection:
    """A connection to a receiver. Any error closes it, so that a late answer reaches nobody."""

    def __init__(
        self, host: str, port: int, *, context: ssl.SSLContext | None, connect_s: float, answer_s: float
    ) -> None:
        """Connects.

        Args:
            host: Name or address of the receiver.
            port: Its port.
            context: For TLS; None: without.
            connect_s: Seconds to wait for the connection.
            answer_s: Seconds to wait for the answer to a message.

        Raises:
            NoAnswerError: The receiver cannot be reached, or its certificate is not the expected one.
        """
        self._answer_s = answer_s
        self._left = b""
        where = f"{host}:{port}"
        try:
            plain = socket.create_connection((host, port), timeout=connect_s)
            # a message is one packet and waits for its answer: nothing is gained by collecting
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(plain, server_hostname=host) if context else plain
        except ssl.SSLCertVerificationError as error:
            raise NoAnswerError(f"The certificate of {where} is refused: {error.verify_message}") from error
        except (OSError, UnicodeError) as error:
            raise NoAnswerError(f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}") from error

    def exchange(
        self, body: bytes, read_answer: Callable[[bytes], Answer | None], meanwhile: Callable[[], None] = lambda: None
    ) -> Answer:
        """Sends a message and returns its answer.

        Args:
            body: The message.
            read_answer: Gets what was received, without the frame, and returns the answer to this message; None for
                anything else, such as a late or repeated answer to an earlier one, which is dropped.
            meanwhile: Called when the message was sent, before the answer is read.

        Raises:
            ConnectionClosedError: The receiver closed the connection before an answer began.
            NoAnswerError: None came in time, or the connection broke. The receiver may have the message all the same.
        """
        deadline = time.monotonic() + self._answer_s
        try:
            self._socket.settimeout(self._answer_s)
            self._socket.sendall(framed(body))
            meanwhile()
            while (answer := read_answer(self._receive(deadline))) is None:
                pass
        except TimeoutError as error:
            self.close()
            half = f", only {len(self._left)} bytes without the end of a message" if self._left else ""
            raise NoAnswerError(f"No answer within {self._answer_s:g} s{half}.") from error
        except (ConnectionResetError, BrokenPipeError) as error:
            self.close()
            raise ConnectionClosedError(f"The connection broke: {error.strerror or error}") from error
        except OSError as error:
            self.close()
            raise NoAnswerError(f"The connection broke: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise
        return answer

    def _receive(self, deadline: float) -> bytes:
        """Returns the next message that the receiver sends."""
        while END not in self._left:
            if len(self._left) > MAX_ANSWER_BYTES:
                raise NoAnswerError(f"The answer is longer than {MAX_ANSWER_BYTES:,} bytes.")
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            received = self._socket.recv(16 * 1024)
            if not received:
                if not self._left:
                    raise ConnectionClosedError("The receiver closed the connection without an answer.")
                raise NoAnswerError(f"The receiver closed the connection after {len(self._left)} bytes of an answer.")
            self._left += received
        frame, _, self._left = self._left.partition(END)
        return frame.rpartition(START)[2]

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
