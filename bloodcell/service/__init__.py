"""Running bloodcell: the whole system on one machine, the watcher, and the checks of an installation.

    up               Postgres, Airflow and the watcher, started in order and stopped together
    processes        child processes that are kept running
    airflow_home     Airflow's configuration, secrets and passwords below the data folder
    airflow_api      a client of Airflow's REST API; airflow_records are what it returns
    watch            starts a run for each night that is completely written
    due_nights       the nights that a run has to work on
    doctor           checks everything that bloodcell needs
    telemetry        figures of the running system, pushed by OpenTelemetry

The Dags and the command line use these modules; no stage imports this room.
"""
