"""The label inbox: the files that pathologists put there become labels.

This file only says when the import runs, and how a failure is retried. The library does the work, which leaves the same
rows if it is done twice, killed at any point, or done by two runs at once.
"""

from __future__ import annotations

import logging

from airflow.sdk import dag, get_current_context, task
from run_note import add_run_note
from task_defaults import TASK_DEFAULTS, refuse_unknown_params

from bloodcell.errors import ConfigurationError
from bloodcell.settings import Settings

log = logging.getLogger(__name__)
settings = Settings()


@task
def inbox() -> dict[str, int]:
    """Returns the number of new labels of each imported file; fails at the end if other files were set aside."""
    from bloodcell.labels import import_inbox

    context = get_current_context()
    refuse_unknown_params(context)
    result = import_inbox(settings, airflow_run=context["run_id"])
    imported = {file.path: file.n_labels for file in result.files if file.outcome == "imported"}
    log.info("Imported: %s", imported)
    add_run_note(settings, context, result.summary)
    if result.quarantined:
        raise ConfigurationError(
            "These files were set aside and stay where they are; all others were imported. A corrected file is read "
            "again. " + " ".join(f"[{file.path}] {file.reason}" for file in result.quarantined)
        )
    return imported


@dag(
    schedule=settings.labels_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args=TASK_DEFAULTS,
    doc_md="""
### The label inbox

CSV files and folders sorted by class in the inbox (`BLOODCELL_LABELS_DIR`) become labels. A file is imported completely
or not at all. A folder is named after the person who sorted it: `<inbox>/<person>/<class or code>/<image>`.

Slides whose cells have new labels, from any source, are counted, and get a new version of their result. So do slides
of the last thirty days that nobody has signed, if the laboratory's rules are others now.
The run's note says what was imported, or that nothing was new.

It starts automatically at `BLOODCELL_LABELS_CRON` (UTC); *Trigger* starts it by hand. Files changed within the last
`BLOODCELL_SETTLE_S` seconds wait for the next run.

**Doing it again is safe.** Each file is recognised by its content and read once; a label that exists is not added
again. Nothing is moved or deleted; imported files may be removed.

**Red?** A file was set aside; the end of the log gives its name, the rows and the reason. Correct and save the file:
the next run reads it again. A file whose cells are not in the database (`cells_missing`) is also read again after the
next ingest.
To import only the correct rows: `bloodcell labels import FILE --partial`. The view `label_inbox` lists all files.
""",
)
def import_labels() -> None:
    """Import what is new in the label inbox."""
    inbox()


import_labels()
