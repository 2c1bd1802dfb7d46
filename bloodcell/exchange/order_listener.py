"""Receives orders over MLLP (`bloodcell exchange listen`): any number of messages on a connection."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bloodcell.errors import ConfigurationError
from bloodcell.exchange.identities import IdentityKeys, remove_expired
from bloodcell.exchange.mllp import END, START, framed
from bloodcell.exchange.order_intake import take_order
from bloodcell.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from bloodcell.exchange.exchange_file import ExchangeFile, OrderSource
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_CONNECTIONS: Final = 20
_IDLE_S: Final = 600.0
"""Seconds without a message after which a connection is closed."""
_MESSAGE_S: Final = 30.0
"""Seconds that a message may take from its first byte to its last."""
_CLEAN_S: Final = 600.0


def listen(settings: Settings, exchange: ExchangeFile, on_ready: Callable[[int], None] = lambda _: None) -> None:
    """Receives orders until the process is told to stop (SIGTERM, SIGINT).

    Args:
        settings: The database, and where keys are.
        exchange: The exchange file; its section `orders` says where to listen.
        on_ready: Called with the port once orders can come.

    Raises:
        ConfigurationError: The exchange file has no section `orders`, its certificate cannot be read, or the address
            cannot be used.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    source = exchange.orders
    if source is None:
        raise ConfigurationError(
            "The exchange file has no section [orders], so no order is received. Next: bloodcell exchange example"
        )
    database, keys = open_database(settings), IdentityKeys.of(settings)
    asyncio.run(_Listener(database, keys, exchange, source).run(on_ready))


class _Listener:
    def __init__(self, database: Database, keys: IdentityKeys, exchange: ExchangeFile, source: OrderSource) -> None:
        self._database = database
        self._keys = keys
        self._own = exchange.sender
        self._source = source
        self._n_open = 0

    async def run(self, on_ready: Callable[[int], None]) -> None:
        context, source = _tls(self._source), self._source
        try:
            server = await asyncio.start_server(
                self._serve, source.host, source.port, ssl=context, limit=MAX_MESSAGE_BYTES
            )
        except OSError as error:
            raise ConfigurationError(
                f"Orders cannot be received at {source.host}:{source.port}: {error.strerror or error}. Next: correct "
                "host or port in section [orders] of the exchange file."
            ) from error
        stopped = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError, ValueError, RuntimeError):  # not in the main thread
                asyncio.get_running_loop().add_signal_handler(each, stopped.set)
        async with server:
            cleaning = asyncio.create_task(self._clean())
            on_ready(server.sockets[0].getsockname()[1])
            await stopped.wait()
            cleaning.cancel()

    async def _clean(self) -> None:
        while True:
            with suppress(Exception):  # what is left is removed next time
                await asyncio.to_thread(self._database.transact, lambda c: remove_expired(c, self._keys), patience_s=0)
            await asyncio.sleep(_CLEAN_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._n_open += 1
        try:
            if self._n_open > MAX_CONNECTIONS:
                log.warning("A connection was closed: %d are open already.", MAX_CONNECTIONS)
                return
            address = writer.get_extra_info("peername")[0]
            if self._source.addresses and address not in self._source.addresses:
                log.warning("A connection from %s was closed: it is none of `addresses` in [orders].", address)
                return
            await self._answer_all(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.info("A connection ended: %s", type(error).__name__)
        finally:
            self._n_open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(_IDLE_S):
                first = await reader.read(1)
            if not first:
                return
            async with asyncio.timeout(_MESSAGE_S):
                received = first + await reader.readuntil(END)
            body = received.removesuffix(END).rpartition(START)[2]
            answer = await asyncio.to_thread(take_order, self._database, self._keys, self._own, body)
            writer.write(framed(answer))
            async with asyncio.timeout(_MESSAGE_S):
                await writer.drain()


def _tls(source: OrderSource) -> ssl.SSLContext | None:
    if not source.certificate_file:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=source.client_ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(source.certificate_file, source.key_file)
        if source.client_ca_file:
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise ConfigurationError(
            f"A certificate for receiving orders cannot be read: {error.strerror or error}. Next: correct section "
            "[orders] of the exchange file."
        ) from error
    return context
