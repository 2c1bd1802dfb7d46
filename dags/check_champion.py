"""The nightly check: does the champion agree with the new labels, and are the nights like its validation images?

This file only says when the check runs, on which queue and pool, and who gets the alarm. The library does the work; a
retry of the same run finds the rows that were written, and writes nothing twice.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from alarm_notifier import AlarmNotifier
from run_note import add_run_note
from task_defaults import TASK_DEFAULTS, refuse_unknown_params

from bloodcell.errors import CheckFailedError, NoChampionError
from bloodcell.settings import Settings

log = logging.getLogger(__name__)
settings = Settings()


# embedding a few hundred cells takes a minute on a CPU; TensorFlow is imported here and ends with this task's process
@task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=2))
def check() -> str:
    """Returns the figures in Markdown; all rows are in the database by then."""
    from bloodcell.monitoring import check_champion

    context = get_current_context()
    refuse_unknown_params(context)
    try:
        found = check_champion(settings, airflow_run=context["run_id"])
    except NoChampionError as error:
        add_run_note(settings, context, f"skipped: {error}")
        raise AirflowSkipException(str(error)) from error
    log.info("Check\n%s", found.markdown())  # one message, because the log's page would number each line
    return found.markdown()


@task
def alarm() -> str:
    """Returns the result in words; fails with every reason if a threshold was crossed.

    It reads the check from the database, because users who may not change the database can write XComs.
    """
    from bloodcell.monitoring import read_check

    context = get_current_context()
    found = read_check(settings, context["run_id"])
    if found is None:
        raise CheckFailedError(
            "This run has checked nothing: its task check was marked successful by hand. Next: bloodcell models check"
        )
    outcome = f"Champion {found.variant} {found.model_id[:12]}: {found.result}."
    add_run_note(settings, context, " ".join([outcome, *found.failed]))
    if found.failed:
        raise CheckFailedError(
            f"Champion {found.model_id[:12]} needs attention; its calls are reported as before. "
            + " ".join(found.failed)
        )
    return found.result


@dag(
    schedule=settings.check_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args={**TASK_DEFAULTS, "on_failure_callback": AlarmNotifier()},
    doc_md="""
### The nightly check of the champion

**check** compares the champion's calls with the labels that pathologists have entered since the last check (overall, by
class, and read blind), and compares the nights since then with the images the model was validated on: class mix,
confidence, novelty, and the embedding of up to 512 cells. Every figure is a row of the view `champion_check`. **alarm**
fails if a threshold was crossed, and says which. The check changes nothing: the champion's calls are reported until a
person decides otherwise.

It starts at `BLOODCELL_CHECK_CRON` (UTC); *Trigger* starts it by hand, and `bloodcell models check` does the same
without Airflow. With `BLOODCELL_ALARM_URL`, a failed task is posted there as JSON.

**Few labels, few slides?** Fewer than `BLOODCELL_CHECK_MIN_CELLS` cells are not judged, but count at the next check.
While no model is champion there is nothing to check, and the run is skipped. The run's note has the result.

**Doing it again is safe.** A retry of a run writes nothing twice, and each labelled cell counts once for each champion.

**Red?** *check*: the end of the log says what is wrong and what to do next. *alarm*: read its reasons. For lower
agreement, look at the cells (`checked_label`), then retrain, or `bloodcell models rollback --reason R`. For drift, look
at the slides, staining, focus and light first. A red run may stay red after somebody has looked into it: the next run
checks new cells only.
""",
)
def check_champion() -> None:
    """Check the champion, then raise the alarm if a threshold was crossed."""
    check() >> alarm()


check_champion()
