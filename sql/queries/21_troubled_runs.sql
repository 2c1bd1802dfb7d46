-- Runs of a stage that failed, or that never came to an end.
--
-- Who asks: the operator.
-- Set: since (first day, default 30 days ago), hours (a run may take, default 12)
-- Read: state failed: error says why and what to do next. state running, older than the hours: the process was killed;
--   what it had written is kept, and the next run goes on from there. airflow_run: the Dag run to look at.
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
