"""Limits on failed log-ins, for Airflow's API server and for the review desk: by address, and by account.

Both count in the memory of one process, and forget at its end.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_FAILURES: Final = 10
WINDOW_S: Final = 60.0
"""An address may fail to log in `MAX_FAILURES` times within this time: a person who mistypes does not notice it."""
_MAX_ADDRESSES: Final = 10_000

FREE_FAILURES: Final = 10
FIRST_WAIT_S: Final = 30.0
LONGEST_WAIT_S: Final = 3_600.0
_MAX_ACCOUNTS: Final = 10_000
_MAX_KNOWN_ADDRESSES: Final = 20


@dataclass(slots=True)
class _Client:
    """The attempts of one address.

    Attributes:
        failed: When those that failed began, on the monotonic clock.
        n_running: Attempts that are not answered yet.
        ended: Is set when the next of these is answered.
    """

    failed: list[float] = field(default_factory=list)
    n_running: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def wait_s(self) -> int:
        """Returns the seconds to wait after too many failures; otherwise 0."""
        now = time.monotonic()
        self.failed = [at for at in self.failed if now - at < WINDOW_S]
        return max(1, round(WINDOW_S - (now - self.failed[0]))) if len(self.failed) >= MAX_FAILURES else 0

    def end(self, failure: float | None) -> None:
        """Ends an attempt, which failed if `failure` is the time when it began."""
        self.n_running -= 1
        self.failed += [] if failure is None else [failure]
        self.ended.set()
        self.ended = asyncio.Event()


class LoginLimit:
    """Answers 429 to an address that has failed to log in too often, until its failures are older than `WINDOW_S`.

    The IPv6 addresses of a /64 network count as one address. An attempt that would be one too many if all before it
    failed waits until they are answered: many guesses at once gain nothing, and twenty people behind one address can
    sign at the same time. A successful attempt is forgotten. The counts are those of one process.

    Args:
        app: The application behind it.
        paths: The paths to which log-ins are posted.
    """

    def __init__(self, app: Application, paths: Collection[str]) -> None:
        self._app = app
        self._paths = paths
        self._clients: defaultdict[str, _Client] = defaultdict(_Client)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope) not in self._paths:
            await self._app(scope, receive, send)
            return
        if len(self._clients) > _MAX_ADDRESSES:
            self._clients.clear()
        client = self._clients[network_of((scope.get("client") or ("",))[0])]
        while not (wait_s := client.wait_s()) and len(client.failed) + client.n_running >= MAX_FAILURES:
            await client.ended.wait()
        if wait_s:
            await refuse(send, 429, b"Too many failed log-ins; try again later", (b"retry-after", b"%d" % wait_s))
            return
        began, is_answered = time.monotonic(), False
        client.n_running += 1

        async def watched(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start" and not is_answered:
                is_answered = True
                client.end(began if _has_failed(message) else None)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if not is_answered:
                client.end(began)


@dataclass(slots=True)
class _Account:
    """What is known of the attempts on one account.

    Attributes:
        n_failed: Failures in a row from addresses that are not known.
        free_at: When the next attempt from such an address is answered, on the monotonic clock.
        known: Addresses from which the person has logged in, the latest last.
    """

    n_failed: int = 0
    free_at: float = 0.0
    known: OrderedDict[str, None] = field(default_factory=OrderedDict)


class AccountLimit:
    """Slows down guessing one account from many addresses, without locking the person out.

    After 10 failures in a row, an account is answered again only after 30 s, and after each further failure twice as
    late, up to an hour: 16 guesses in the first hour, and 24 a day from then on. NIST SP 800-63B-4, 3.2.2, wants such
    waits, and no more than 100 failures in a row; after those it wants the account closed. That is not done here: who
    knows the names of a laboratory's people could close all of their accounts in a night. The 100th failure comes after
    three and a half days, and a password has 15 characters and is none of the commonest.

    An attacker must not be able to keep a person waiting. So addresses from which the person has logged in (the last
    20) neither wait nor make others wait; `LoginLimit` slows those, at the desk also before a signature. Accounts that
    do not exist are counted like others, so that nothing can be learnt from a wait.
    """

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def begin(self, name: str, address: str) -> int:
        """Returns the seconds to wait before an attempt; 0 if it may be made now, and is then counted as a failure.

        Args:
            name: The name that was typed, in any case.
            address: Address of the client.
        """
        account = self._account_of(name)
        if network_of(address) in account.known:
            return 0
        now = time.monotonic()
        if now < account.free_at:
            return math.ceil(account.free_at - now)
        account.n_failed += 1
        if account.n_failed >= FREE_FAILURES:
            # the exponent has an end, so that the number has one
            account.free_at = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(account.n_failed - FREE_FAILURES, 20))
        return 0

    def undone(self, name: str) -> None:
        """Takes back the failure that `begin` counted, because nobody could say whether the password was right.

        Args:
            name: The name that was typed, in any case.
        """
        account = self._account_of(name)
        account.n_failed, account.free_at = max(0, account.n_failed - 1), 0.0

    def succeeded(self, name: str, address: str) -> None:
        """Forgets the failures of an account, and knows the address from now on.

        Args:
            name: The name that was typed, in any case.
            address: Address of the client.
        """
        account = self._account_of(name)
        account.n_failed, account.free_at = 0, 0.0
        account.known[network_of(address)] = None
        account.known.move_to_end(network_of(address))
        while len(account.known) > _MAX_KNOWN_ADDRESSES:
            account.known.popitem(last=False)

    def _account_of(self, name: str) -> _Account:
        key = name.strip().casefold()[:200]
        account = self._accounts.setdefault(key, _Account())
        self._accounts.move_to_end(key)
        while len(self._accounts) > _MAX_ACCOUNTS:  # names that are made up push out each other, not those in use
            idle = next((each for each, found in self._accounts.items() if not found.known), None)
            self._accounts.pop(idle if idle is not None else next(iter(self._accounts)))
        return account


def network_of(address: str) -> str:
    """Returns an IPv4 address, or the /64 network of an IPv6 address, because a single machine has all of that."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv4Address):
        return address
    return str(known.ipv4_mapped or IPv6Network((int(known), 64), strict=False))


def path_of(scope: Message) -> str:
    """Returns the path of a request below the application's own."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


async def refuse(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Answers a request with a status and a plain text."""
    all_headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


def _has_failed(message: Message) -> bool:
    if message["status"] in (400, 401, 403, 422):
        return True
    # Flask AppBuilder's page sends a person with a wrong password back to itself
    return any(name.lower() == b"location" and b"/login" in value for name, value in message["headers"])
