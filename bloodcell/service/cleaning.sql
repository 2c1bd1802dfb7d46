-- name: old_airflow_runs
-- Runs in Airflow's own tables; the newest of each Dag always stays.
SELECT count(*) FROM dag_run WHERE start_date < :before
