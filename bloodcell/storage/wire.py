"""Parameters by which a connection to Postgres detects that the server is gone; Airflow's connections use them too."""

from __future__ import annotations

from typing import Final

WIRE: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""libpq's parameters; times are in s, the last one in ms (https://www.postgresql.org/docs/current/libpq-connect.html).

A server whose machine or network is gone sends nothing, not even a refusal. With these parameters, a waiting stage
notices it after a minute; with the system's defaults, after two hours.
"""
