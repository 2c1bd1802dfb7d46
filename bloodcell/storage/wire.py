"""How a connection to Postgres finds out that the other end is gone, for Airflow's own connections, too."""

from __future__ import annotations

from typing import Final

WIRE: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""libpq's parameters, in s and the last in ms (https://www.postgresql.org/docs/current/libpq-connect.html).

A server whose machine or wire went away says nothing, not even no. With these a stage that waits for its answer knows
after a minute; with the system's own after two hours.
"""
