-- name: earlier
-- The rows that the same Airflow run, or an earlier try of it, has already written.
SELECT k.run_id, k.model_id, m.variant, k.kind, k.class, k.n_cells, k.measured, k.lower, k.upper, k.threshold,
       k.passed, k.reason, k.since_night, k.until_night
FROM bloodcell.model_check k JOIN bloodcell.run r USING (run_id) JOIN bloodcell.model m USING (model_id)
WHERE r.stage = 'check' AND (r.airflow_run = :airflow_run OR r.run_id = :run_id)
ORDER BY k.check_id
