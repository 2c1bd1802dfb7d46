"""The note of a run: one sentence on how it ended, on the page where its starter looks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from bloodcell.errors import BloodcellError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from bloodcell.settings import Settings

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 60.0


def add_run_note(settings: Settings, context: Context, text: str) -> None:
    """Adds a text to the note of this run; without a log-in, or if Airflow refuses, the log has it and the reason.

    A note only informs: users who may operate Airflow can change it, and nothing reads it.
    """
    from bloodcell.service.airflow_api import AirflowApi
    from bloodcell.service.airflow_home import password_file

    log.info("%s", text)
    if not password_file(settings).exists():
        log.info("This worker has no log-in to Airflow, so the run gets no note.")
        return
    try:
        with AirflowApi(settings, patience_s=_PATIENCE_S) as api:
            api.add_note(context["dag_run"].dag_id, context["run_id"], text)
    except BloodcellError as error:
        log.warning("The note of the run was not written: %s", error)
