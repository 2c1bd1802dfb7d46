-- Runs of a stage that failed or never finished.
--
-- Who asks: the operator.
-- Set: since (first day, default 30 days ago), hours (that a run may take, default 12)
-- Read: state failed: error says why and what to do next. state running for longer than the given hours: the process was
--   killed; what it wrote is kept, and the next run resumes from there. airflow_run: the Dag run to look at.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif
\if :{?hours}
\else
\set hours 12
\endif

SELECT started_at, stage, night, state, host, code_version, airflow_run, error
FROM bloodcell.run_history
WHERE started_at >= :'since'::date
  AND (state = 'failed' OR (state = 'running' AND now() - started_at > make_interval(hours => :hours)))
ORDER BY started_at DESC;
