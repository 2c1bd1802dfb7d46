"""Signed results leave for other systems: what waits in the outbox is sent to its receivers.

This file only says when that happens. The library does the work: each receiver has one sender at a time, and a message
that was sent twice has the same control id.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from alarm_notifier import AlarmNotifier
from run_note import add_run_note
from task_defaults import TASK_DEFAULTS, refuse_unknown_params

from bloodcell.errors import ConfigurationError, MessagesRejectedError
from bloodcell.settings import Settings

log = logging.getLogger(__name__)
settings = Settings()


# the next run is a minute away: a retry would only stand in its way
@task(execution_timeout=timedelta(minutes=20), retries=0)
def send() -> list[str]:
    """Returns what was sent to each receiver; skipped if nothing waited, failed if a message was rejected."""
    from bloodcell.exchange import send_results

    context = get_current_context()
    refuse_unknown_params(context)
    sent = send_results(settings)
    lines = [str(each) for each in sent]
    log.info("%s", " ".join(lines))
    if any(each.n_held for each in sent):
        add_run_note(settings, context, " ".join(lines))
        raise MessagesRejectedError(
            f"{' '.join(lines)} A person has to look at what was rejected. Next: bloodcell exchange status"
        )
    if any(each.needs_correction for each in sent):
        add_run_note(settings, context, " ".join(lines))
        raise ConfigurationError(" ".join(lines))
    if not any(each.n_delivered or each.trouble for each in sent):
        raise AirflowSkipException("Nothing waited.")
    add_run_note(settings, context, " ".join(lines))
    return lines


@dag(
    schedule=(settings.send_cron or None) if settings.exchange_file else None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args={**TASK_DEFAULTS, "on_failure_callback": AlarmNotifier()},
    doc_md="""
### Results leave

What people have signed is sent to the systems that the exchange file (`BLOODCELL_EXCHANGE_FILE`) names. Without one,
nothing leaves and this Dag has no schedule. Else it starts at `BLOODCELL_SEND_CRON` (UTC), and is skipped if nothing
waits. The run's note says what was sent.

A message is written in the transaction that signs the result, so none is lost. A receiver that cannot be reached gets
it later; the pauses grow from a minute to an hour. Versions of a slide are delivered in their order.

**Doing it again is safe.** A message that is sent again has the same control id (MSH-10), by which its receiver knows
it.

**Red?** A receiver rejected a message; it waits for a person, and so do newer versions of its slide.
`bloodcell exchange status` shows the answer. Correct what it says there, then `bloodcell exchange replay --reason R`;
or `bloodcell exchange skip --reason R`. The view `message` lists all messages.
""",
)
def send_results() -> None:
    """Send what waits in the outbox."""
    send()


send_results()
