-- name: old_airflow_runs
-- Runs in Airflow's own tables; the newest of each Dag that was not started by hand always stays.
SELECT count(*) FROM dag_run WHERE start_date < :before
