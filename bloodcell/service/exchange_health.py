"""Whether results reach the systems that they are sent to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from bloodcell.exchange.exchange_file import read_exchange_file
from bloodcell.exchange.message_list import read_messages
from bloodcell.presentation.numbers import counted, moment
from bloodcell.service.findings import Finding

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_LONG_WAIT: Final = timedelta(hours=1)


def exchange_finding(settings: Settings, database: Database) -> Finding:
    """Returns what waits for the receivers, or was rejected.

    Raises:
        ConfigurationError: The exchange file is not valid.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    configured, receivers = read_exchange_file(settings.exchange_file), read_messages(database).receivers
    if not receivers and not configured.receivers:
        return Finding("exchange", "ok", "No receiver is configured, so no result leaves")
    if n_held := sum(each.n_held for each in receivers):
        detail = f"{counted(n_held, 'message')} rejected, which {'waits' if n_held == 1 else 'wait'} for a person"
        return Finding("exchange", "warn", detail, "Next: bloodcell exchange status")
    if left := sorted({each.receiver for each in receivers} - configured.receivers.keys()):
        detail = f"The exchange file does not name {', '.join(left)}, whose messages wait"
        return Finding("exchange", "warn", detail, "Add it there, or bloodcell exchange remove, then exchange skip")
    late = [each for each in receivers if each.oldest_waiting_at and _age(each.oldest_waiting_at) > _LONG_WAIT]
    if late:
        oldest = min(each.oldest_waiting_at for each in late if each.oldest_waiting_at)
        names = ", ".join(each.receiver for each in late)
        detail = f"Messages wait for {names}, the oldest since {moment(oldest)}"
        return Finding("exchange", "warn", detail, "Next: bloodcell exchange send says why")
    names = ", ".join(sorted(configured.receivers))
    return Finding("exchange", "ok", f"Results are sent to {names}")


def _age(since: datetime) -> timedelta:
    return datetime.now(UTC) - since
