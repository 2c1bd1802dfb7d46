"""A webhook on this machine that keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.serving import serving


@dataclass
class Webhook:
    """Its address, the messages it has received, and the status it returns; with `silent` it never responds."""

    url: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    silent: bool = False
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def listening() -> Iterator[Webhook]:
    """Runs a webhook on a free port of the loopback address."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            webhook.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if webhook.silent:
                webhook.released.wait(60)
            self.send_response(webhook.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    webhook.url = f"http://127.0.0.1:{server.server_port}/hook/secret-token"
    with serving(server):
        try:
            yield webhook
        finally:
            webhook.released.set()
