"""The weekly verification of the store: are all images, models and reports still what they were?

This file only says when it runs, and who gets the alarm. The library does the work; doing it twice changes nothing.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import dag, get_current_context, task
from alarm_notifier import AlarmNotifier
from run_note import add_run_note
from task_defaults import TASK_DEFAULTS, refuse_unknown_params

from bloodcell.errors import CheckFailedError
from bloodcell.settings import Settings

log = logging.getLogger(__name__)
settings = Settings()


@task
def verify() -> dict[str, Any]:
    """Returns what was found; fails if something damaged could not be healed."""
    from bloodcell.verification import verify_store

    context = get_current_context()
    refuse_unknown_params(context)
    found = verify_store(settings, repair=True, airflow_run=context["run_id"])
    for damage in found.damaged:
        log.warning("%s is %s; %s", damage.place, damage.problem, damage.healed_from or damage.not_healed)
    outcome = f"{found.n_objects:,} objects verified: {found.n_healed:,} healed, {found.n_left:,} still damaged."
    add_run_note(settings, context, outcome)
    if found.n_left:
        raise CheckFailedError(
            f"{found.n_left:,} of {found.n_objects:,} objects of the store {found.store} are damaged, and no good copy "
            "was found in the drops folder. Nothing else was changed. Next: bloodcell store verify --repair --from "
            "BACKUP, which names the slides and cells."
        )
    return {
        "objects": found.n_objects,
        "healed": found.n_healed,
        "orphans": found.n_orphans,
        "unfinished": found.n_stale_parts,
    }


@dag(
    schedule=settings.verify_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args={**TASK_DEFAULTS, "on_failure_callback": AlarmNotifier()},
    doc_md="""
### The weekly verification of the store

**verify** reads every image, model and report that the database refers to, and compares it with its digest. What is
missing, truncated or altered is replaced by its original from the drops folder, if the digest is right. Nothing that is
good is overwritten, and nothing is deleted except unfinished files that are older than a day.

It starts at `BLOODCELL_VERIFY_CRON` (UTC); *Trigger* starts it by hand, and `bloodcell store verify --repair` does the
same without Airflow. With `BLOODCELL_ALARM_URL`, a failed task is posted there as JSON. The view `store_verification`
has every result.

**Doing it again is safe.** A second run reads everything again and changes only what is damaged.

**Red?** Something is damaged and its original is not in the drops folder any more; the end of the log says how much.
`bloodcell store verify --repair --from BACKUP` looks in a backup of the drops or of the store, and names the slides and
cells that it cannot heal. Healed objects are warnings in the log: if they come again, the disk is failing.
""",
)
def verify_store() -> None:
    """Verify the store, and heal what is damaged."""
    verify()


verify_store()
