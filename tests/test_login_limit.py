"""Whose failed log-ins count as one client's. tests/service/test_retrain.py tries the limit on a real server."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bloodcell.login_limit import AccountLimit, LoginLimit


def answers(addresses: list[str]) -> list[int]:
    """Returns the status that each of several wrong passwords gets, one after the other."""
    sent: list[int] = []

    async def wrong(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})

    async def send(message: Any) -> None:
        sent.extend([message["status"]] if "status" in message else [])

    async def post() -> None:
        limit = LoginLimit(wrong, {"/auth/token"})
        for address in addresses:
            scope = {"type": "http", "method": "POST", "path": "/auth/token", "client": (address, 0)}
            await limit(scope, lambda: None, send)  # type: ignore[arg-type, return-value]

    # in a thread of its own: a browser of other tests keeps the event loop of this one
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(post())).result()
    return sent


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    one = [f"2001:db8:0:1::{n:x}" for n in range(1, 12)]
    assert answers([*one, "2001:db8:0:2::1"]) == [401] * 10 + [429, 401]


def test_an_ipv4_address_is_one_client_however_it_is_written() -> None:
    assert answers(["10.0.0.1"] * 5 + ["::ffff:10.0.0.1"] * 6 + ["10.0.0.2"]) == [401] * 10 + [429, 401]


def test_what_is_no_address_is_one_client_too() -> None:
    assert answers(["unix:"] * 11) == [401] * 10 + [429]


def at_once(statuses: list[int]) -> list[int]:
    """Returns the answers to attempts that come at once from one address; the n-th one tried gets the n-th status."""
    sent: list[int] = []
    left = iter(statuses)

    async def check(_: Any, __: Any, send: Any) -> None:
        status = next(left)
        await asyncio.sleep(0)
        if status == 500:
            raise ConnectionError
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def send(message: Any) -> None:
        sent.extend([message["status"]] if "status" in message else [])

    async def post() -> None:
        limit = LoginLimit(check, {"/auth/token"})
        scope = {"type": "http", "method": "POST", "path": "/auth/token", "client": ("10.0.0.1", 0)}
        attempts = [limit(scope, lambda: None, send) for _ in statuses]  # type: ignore[arg-type, return-value]
        await asyncio.gather(*attempts, return_exceptions=True)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(post())).result()
    return sent


def test_right_passwords_that_come_at_once_are_all_answered() -> None:
    assert at_once([200] * 25) == [200] * 25


def test_wrong_passwords_that_come_at_once_gain_nothing() -> None:
    assert at_once([401] * 25) == [401] * 10 + [429] * 15
    assert at_once(([200] * 9 + [401]) * 12) == ([200] * 9 + [401]) * 10 + [429] * 20


def test_an_attempt_without_an_answer_is_a_failure() -> None:
    assert at_once([500] * 12) == [429] * 2


class Clock:
    """The monotonic clock, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_one_account_is_guessed_ever_more_slowly_from_however_many_addresses(clock: Clock) -> None:
    limit, n_guesses, guesses_by_hour = AccountLimit(), 0, []
    for hour in range(100):
        while clock.now < 1_000 + (hour + 1) * 3_600:
            wait_s = limit.begin(
                "AMartin" if n_guesses % 2 else " amartin", f"10.0.{n_guesses // 250}.{n_guesses % 250}"
            )
            n_guesses += not wait_s
            clock.now += wait_s
        guesses_by_hour.append(n_guesses)
    assert guesses_by_hour[0] <= 17
    assert guesses_by_hour[23] <= 40
    assert guesses_by_hour[90] <= 110


def test_a_person_is_not_kept_out_by_who_guesses_all_the_time(clock: Clock) -> None:
    limit = AccountLimit()
    assert limit.begin("amartin", "10.0.0.7") == 0
    limit.succeeded("amartin", "10.0.0.7")
    for n in range(10_000):
        limit.begin("amartin", f"192.0.2.{n % 250}")
    assert limit.begin("amartin", "192.0.2.1") > 0
    assert limit.begin("AMARTIN", "10.0.0.7") == 0


def test_a_success_ends_the_wait_and_other_accounts_do_not_wait(clock: Clock) -> None:
    limit = AccountLimit()
    for _ in range(10):
        assert limit.begin("amartin", "10.0.0.1") == 0
    assert limit.begin("amartin", "10.0.0.1") == 30
    assert limit.begin("bjones", "10.0.0.1") == 0
    clock.now += 30
    assert limit.begin("amartin", "10.0.0.2") == 0
    limit.succeeded("amartin", "10.0.0.2")
    assert [limit.begin("amartin", "10.0.0.3") for _ in range(10)] == [0] * 10


def test_made_up_names_fill_no_memory_and_push_out_no_person(clock: Clock) -> None:
    limit = AccountLimit()
    limit.succeeded("amartin", "10.0.0.7")
    for n in range(20_050):
        limit.begin(f"x{n}" * 3, "192.0.2.1")
    assert len(limit._accounts) == 10_000
    for n in range(10_000):
        limit.begin("amartin", f"192.0.2.{n % 250}")
    assert limit.begin("amartin", "10.0.0.7") == 0


def test_a_person_of_many_addresses_has_the_latest_known(clock: Clock) -> None:
    limit = AccountLimit()
    for n in range(100):
        limit.succeeded("amartin", f"10.0.0.{n}")
    assert len(limit._accounts["amartin"].known) == 20
