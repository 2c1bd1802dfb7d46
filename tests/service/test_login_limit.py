"""Whose failed log-ins count as one client's. tests/service/test_retrain.py tries the limit on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.airflow


def answers(addresses: list[str]) -> list[int]:
    """Returns the status that each of several wrong passwords gets, one after the other."""
    from bloodcell.service.airflow_plugin import LoginLimit

    sent: list[int] = []

    async def wrong(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})

    async def send(message: Any) -> None:
        sent.extend([message["status"]] if "status" in message else [])

    async def post() -> None:
        limit = LoginLimit(wrong)
        for address in addresses:
            scope = {"type": "http", "method": "POST", "path": "/auth/token", "client": (address, 0)}
            await limit(scope, lambda: None, send)  # type: ignore[arg-type, return-value]

    asyncio.run(post())
    return sent


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    one = [f"2001:db8:0:1::{n:x}" for n in range(1, 12)]
    assert answers([*one, "2001:db8:0:2::1"]) == [401] * 10 + [429, 401]


def test_an_ipv4_address_is_one_client_however_it_is_written() -> None:
    assert answers(["10.0.0.1"] * 5 + ["::ffff:10.0.0.1"] * 6 + ["10.0.0.2"]) == [401] * 10 + [429, 401]


def test_what_is_no_address_is_one_client_too() -> None:
    assert answers(["unix:"] * 11) == [401] * 10 + [429]
