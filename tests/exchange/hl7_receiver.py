"""A receiver of HL7 over MLLP for tests, which answers as it is told to; it shares no code with bloodcell."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Answering = Callable[[str], list[bytes]]
"""Text of a message -> the bytes that are sent back; without one, or if the last is empty, the connection is closed."""


def control_id(message: str) -> str:
    return message.split("\r")[0].split("|")[9]


def status_of(message: str) -> tuple[str, set[str]]:
    """Returns the status of the result and of its observations in a message."""
    lines = [line.split("|") for line in message.split("\r")]
    return next(f[25] for f in lines if f[0] == "OBR"), {f[11] for f in lines if f[0] == "OBX"}


def acknowledged(message: str, code: str = "AA", text: str = "", *, of: str | None = None) -> bytes:
    """Returns an acknowledgement with its frame."""
    header = "MSH|^~\\&|LIS|HOSPITAL|bloodcell|laboratory|20260315||ACK|1|P|2.5.1"
    return f"\x0b{header}\rMSA|{code}|{of or control_id(message)}|{text}\r\x1c\r".encode()


@dataclass
class Receiver:
    """What was received, in order, and how the next messages are answered."""

    port: int = 0
    n_connections: int = 0
    received: list[str] = field(default_factory=list)
    answer: Answering = lambda message: [acknowledged(message)]

    @property
    def ids(self) -> list[str]:
        return [control_id(message) for message in self.received]

    def segments(self, name: str, of: int = -1) -> list[list[str]]:
        """Returns the fields of each segment of a name, in one of the messages."""
        lines = self.received[of].split("\r")
        return [line.split("|") for line in lines if line.split("|")[0] == name]


@contextmanager
def receiving(context: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> Iterator[Receiver]:
    """Runs a receiver on a free port of this machine."""
    receiver = Receiver()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            receiver.n_connections += 1
            waiting = b""
            while read := self.request.recv(65536):
                waiting += read
                while b"\x1c\r" in waiting:
                    frame, _, waiting = waiting.partition(b"\x1c\r")
                    message = frame.removeprefix(b"\x0b").decode()
                    receiver.received.append(message)
                    answers = receiver.answer(message)
                    for answer in answers:
                        self.request.sendall(answer)
                    if not answers or not answers[-1]:
                        return

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that goes away in the middle is part of the tests

        def get_request(self) -> tuple[object, object]:  # type: ignore[override]
            accepted, address = super().get_request()
            return (context.wrap_socket(accepted, server_side=True) if context else accepted), address

    with Server((address, 0), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
