"""The alarm of the Dags that check something: a message to a webhook when a task failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseNotifier

from bloodcell.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context


class AlarmNotifier(BaseNotifier):  # type: ignore[misc]  # Airflow is not followed
    """Tells the webhook at `BLOODCELL_ALARM_URL` that a task failed, and why; does nothing if no URL is set."""

    def notify(self, context: Context) -> None:
        """Posts one message; a webhook that cannot be reached is only a warning in the log."""
        from bloodcell.monitoring import Alarm, post_alarm, reason_of

        alarm_url = Settings().alarm_url
        if alarm_url is None:
            return
        instance = context["task_instance"]
        reason = reason_of(context.get("exception"))
        alarm = Alarm(instance.dag_id, instance.run_id, instance.task_id, reason)
        post_alarm(alarm_url.get_secret_value(), alarm)
