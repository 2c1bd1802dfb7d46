"""Running bloodcell: the whole system on one machine, the watcher, and the checks of an installation.

    up               Postgres, the review desk, Airflow and the watcher, started in order and stopped together
    processes        child processes that are kept running
    airflow_home     Airflow's configuration, secrets and passwords below the data folder
    airflow_api      a client of Airflow's REST API; airflow_records are what it returns
    airflow_session  sends its requests, and raises its errors
    airflow_plugin   what bloodcell adds to Airflow's API server
    watch            starts a run for each night that is completely written
    due_nights       the nights that a run has to work on
    doctor           checks everything that bloodcell needs; disk_use is how much of the disk each part uses,
                     desk_health whether the review desk responds, exchange_health whether results
                     reach their receivers, quality_health what is held; findings are what it found
    cleaning         removes what is older than the settings say, in Airflow's own tables, too
    telemetry        figures of the running system, pushed by OpenTelemetry

The Dags and the command line use these modules; no stage imports this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.service.airflow_api import AirflowApi
    from bloodcell.service.doctor import examine
    from bloodcell.service.due_nights import DueNights, ingest_due_nights
    from bloodcell.service.findings import Finding
    from bloodcell.service.telemetry import Figure, pushed_metrics, read_figures
    from bloodcell.service.up import running_stack
    from bloodcell.service.watch import watch_drops
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "AirflowApi": "bloodcell.service.airflow_api",
            "DueNights": "bloodcell.service.due_nights",
            "Figure": "bloodcell.service.telemetry",
            "Finding": "bloodcell.service.findings",
            "examine": "bloodcell.service.doctor",
            "ingest_due_nights": "bloodcell.service.due_nights",
            "pushed_metrics": "bloodcell.service.telemetry",
            "read_figures": "bloodcell.service.telemetry",
            "running_stack": "bloodcell.service.up",
            "watch_drops": "bloodcell.service.watch",
        },
    )

__all__ = [
    "AirflowApi",
    "DueNights",
    "Figure",
    "Finding",
    "examine",
    "ingest_due_nights",
    "pushed_metrics",
    "read_figures",
    "running_stack",
    "watch_drops",
]
