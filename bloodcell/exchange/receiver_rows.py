"""The receivers that the database knows: the exchange file adds them, and only a person removes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.errors import UnknownRecordError
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection

    from bloodcell.exchange.exchange_file import ExchangeFile
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("exchange/receiver_rows.sql")


def keep_receivers(connection: sa.Connection, exchange: ExchangeFile) -> list[str]:
    """Writes the receivers of the exchange file into the database, so that new results get messages for them.

    One that the file does not name any more keeps getting messages, which wait: a file that was not found must not lose
    a result. `bloodcell exchange remove` ends that.

    Returns:
        All receivers that get messages.
    """
    _wait_shortly(connection)
    known = _known(connection)
    for name, each in exchange.receivers.items():
        row = known.get(name)
        if row and (row.protocol, row.gets_unsigned, row.removed_at) == (each.protocol, each.gets_unsigned, None):
            continue
        connection.execute(
            _SQL["add_receiver"], {"name": name, "protocol": each.protocol, "gets_unsigned": each.gets_unsigned}
        )
    return sorted(exchange.receivers.keys() | {name for name, row in known.items() if row.removed_at is None})


def remove_receiver(database: Database, receiver: str) -> None:
    """Ends that a receiver gets messages of new results; those that wait stay.

    Raises:
        UnknownRecordError: There is no such receiver.
    """

    def remove(connection: sa.Connection) -> None:
        _wait_shortly(connection)
        check_receiver_row(connection, receiver)
        connection.execute(_SQL["remove_receiver"], {"name": receiver})

    database.transact(remove)


def check_receiver_row(connection: sa.Connection, receiver: str) -> None:
    """Refuses a name that no receiver has.

    Raises:
        UnknownRecordError: There is no such receiver.
    """
    check_receiver(receiver, {name for name, row in _known(connection).items() if row.removed_at is None})


def check_receiver(receiver: str, known: Collection[str]) -> None:
    """Refuses a name that is not among the known receivers.

    Raises:
        UnknownRecordError: There is no such receiver.
    """
    if receiver not in known:
        raise UnknownRecordError(
            f"No receiver is called {receiver!r}. Expected one of: {', '.join(sorted(known)) or 'there is none'}."
        )


def _known(connection: sa.Connection) -> dict[str, sa.Row[Any]]:
    return {row.name: row for row in connection.execute(_SQL["known_receivers"])}


def _wait_shortly(connection: sa.Connection) -> None:
    """Bounds how long a change of a receiver waits for a sender, which keeps the row while it works."""
    connection.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
