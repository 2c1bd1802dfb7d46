"""Removes what is older than the settings say: images, logs, kept features, snapshots, Airflow's own rows.

This file only says when that happens. The library does the work, which does no harm if it is done twice or killed at
any point.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from run_note import add_run_note
from task_defaults import TASK_DEFAULTS, refuse_unknown_params

from bloodcell.settings import Settings

settings = Settings()


@task(execution_timeout=timedelta(hours=6))
def remove_old() -> dict[str, int]:
    """Returns how much of each kind was removed; skipped if no age is set."""
    from airflow.sdk.configuration import conf

    from bloodcell.service.cleaning import clean

    context = get_current_context()
    refuse_unknown_params(context)
    logs = Path(conf.get("logging", "base_log_folder"))
    done = clean(settings, airflow_run=context["run_id"], logs=logs)
    removed = [each for each in done.removed if each.keep_days is not None]
    if not removed:
        kept = "No BLOODCELL_KEEP_*_DAYS is set, so everything is kept."
        add_run_note(settings, context, f"skipped: {kept}")
        raise AirflowSkipException(kept)
    parts = ", ".join(f"{each.part} {each.elsewhere or format(each.n, ',')}" for each in removed)
    add_run_note(settings, context, f"Removed: {parts}.")
    return {each.part: each.n for each in removed}


@dag(
    schedule=settings.clean_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args=TASK_DEFAULTS,
    doc_md="""
### Cleaning

Removes what is older than the settings `BLOODCELL_KEEP_IMAGES_DAYS`, `BLOODCELL_KEEP_LOGS_DAYS`,
`BLOODCELL_KEEP_AIRFLOW_DAYS`, `BLOODCELL_KEEP_FEATURES_DAYS` and `BLOODCELL_KEEP_SNAPSHOTS_DAYS` say. By default none
is set, nothing is removed, and the task is skipped. Rows about slides, cells, calls and labels always stay.

It starts at `BLOODCELL_CLEAN_CRON` (UTC). `bloodcell clean --dry-run` shows what it would remove; `bloodcell clean`
does the same by hand. The view `run_history` has each run of stage `clean`, with what was removed in its details.
""",
)
def clean() -> None:
    """Remove what is older than the settings say."""
    remove_old()


clean()
