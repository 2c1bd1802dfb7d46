"""The nightly check: is the champion still right, and are the nights still what it was trained for?

Thin on purpose: when, on which queue and pool, and who hears of it. The work is the library's; a retry of the same run
finds what was written and writes nothing twice.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from task_defaults import TASK_DEFAULTS

from bloodcell.errors import CheckFailedError, NoChampionError
from bloodcell.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)
settings = Settings()


class AlarmNotifier(BaseNotifier):  # type: ignore[misc]  # Airflow is not followed
    """Tells the webhook of `BLOODCELL_ALARM_URL` that a task failed, and why; nothing where there is none."""

    def notify(self, context: Context) -> None:
        """Posts one message; a webhook that is away is a warning in the log and nothing else."""
        from bloodcell.monitoring import Alarm, post_alarm, reason_of

        if settings.alarm_url is None:
            return
        instance = context["task_instance"]
        reason = reason_of(context.get("exception"))
        alarm = Alarm(instance.dag_id, instance.run_id, instance.task_id, reason)
        post_alarm(settings.alarm_url.get_secret_value(), alarm)


# the embedding of some hundred cells: a minute on a CPU, and TensorFlow lives and dies with this task's process
@task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=2))
def check() -> dict[str, Any]:
    """Returns the figures in Markdown and the limits that were crossed; all rows are in the database by then."""
    from bloodcell.monitoring import check_champion

    try:
        found = check_champion(settings, airflow_run=get_current_context()["run_id"])
    except NoChampionError as error:
        raise AirflowSkipException(str(error)) from error
    log.info("Check\n%s", found.markdown())  # one message: the log's page would number and stamp each line otherwise
    return {"model": found.model_id, "failed": list(found.failed), "summary": found.markdown()}


@task
def alarm(checked: dict[str, Any]) -> str:
    """Returns the figures in Markdown; fails, with every reason, when a limit was crossed."""
    if checked["failed"]:
        raise CheckFailedError(
            f"Champion {checked['model'][:12]} needs a person; its calls are reported as before. "
            + " ".join(checked["failed"])
        )
    return str(checked["summary"])


@dag(
    schedule=settings.check_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args={**TASK_DEFAULTS, "on_failure_callback": AlarmNotifier()},
    doc_md="""
### The nightly look at the champion

**check** compares the champion's calls with the labels that people gave since the last check (overall, by class, and
read blind), and the nights since then with the images the model was validated on: class mix, confidence, novelty, and
the embedding of up to 512 cells. Every figure is a row of the view `champion_check`. **alarm** fails when a limit was
crossed, and says which. Nothing is changed by this: the champion's calls are reported until a person decides.

It starts by itself at `BLOODCELL_CHECK_CRON` (UTC); *Trigger* starts it by hand, `bloodcell models check` does the same
without Airflow. With `BLOODCELL_ALARM_URL` a failed task is posted there as JSON.

**Few labels, few slides?** Fewer than `BLOODCELL_CHECK_MIN_CELLS` say nothing: they are left, and count next time.
While no model is champion there is nothing to check, and the run is skipped.

**Doing it again is safe.** A retry of a run writes nothing twice, and each labelled cell counts once for each champion.

**Red?** *check*: the log ends with what is wrong and the next step. *alarm*: read its reasons. Less agreement: look at
the cells (`checked_label`), then retrain or `bloodcell models rollback --reason R`. Drift: look at the slides,
staining, focus and light first. A run that was looked at may stay red: the next one looks at new cells only.
""",
)
def check_champion() -> None:
    """Check the champion, then say aloud what is wrong."""
    alarm(check())


check_champion()
