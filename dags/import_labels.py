"""The label inbox: what pathologists put there becomes labels.

Thin on purpose: when, and how often again. The work is the library's and can be done twice, killed anywhere, or done by
two runs at once, and leaves the same rows.
"""

from __future__ import annotations

import logging

from airflow.sdk import dag, get_current_context, task
from task_defaults import TASK_DEFAULTS

from bloodcell.errors import ConfigurationError
from bloodcell.settings import Settings

log = logging.getLogger(__name__)
settings = Settings()


@task
def inbox() -> dict[str, int]:
    """Returns the new labels of each file that was taken in; fails in the end when others were set aside."""
    from bloodcell.labels import import_inbox

    result = import_inbox(settings, airflow_run=get_current_context()["run_id"])
    taken = {file.path: file.n_labels for file in result.files if file.outcome == "imported"}
    log.info("Taken in: %s; known: %d; still being written: %d", taken, result.n_known, result.n_waiting)
    if result.quarantined:
        raise ConfigurationError(
            "These were set aside and stay where they are; the others are in. Mend a file and it is read again. "
            + " ".join(f"[{file.path}] {file.reason}" for file in result.quarantined)
        )
    return taken


@dag(
    schedule=settings.labels_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args=TASK_DEFAULTS,
    doc_md="""
### The label inbox

CSV files and folders sorted by class that lie in the inbox (`BLOODCELL_LABELS_DIR`) become labels, each wholly or not
at all. A folder is named for the person who sorted it: `<inbox>/<person>/<class or code>/<image>`.

It starts by itself at `BLOODCELL_LABELS_CRON` (UTC); *Trigger* starts it by hand. Files changed within the last
`BLOODCELL_SETTLE_S` seconds wait for the next run.

**Doing it again is safe.** Each file is known by its content and judged once; a label that is there is not added again.
Nothing is moved or deleted: what was taken in may be cleared away.

**Red?** A file was set aside; the log ends with its name, the rows and the reason. Mend it and save it: the next run
reads it again. One whose cells are not there (`cells_missing`) is also read again after the next ingest. Or take the
good rows: `bloodcell labels import FILE --partial`. The view `label_inbox` has all files.
""",
)
def import_labels() -> None:
    """Take in what is new in the label inbox."""
    inbox()


import_labels()
