-- How long each stage took on a night, and how many cells per second.
--
-- Who asks: the operator, before buying hardware or moving the start of the run.
-- Set: since (first night, default 30 days ago)
-- Read: minutes adds up the finished runs of the stage; n_runs above 1 means shards, or a night done again. hosts: the
--   machines they ran on. not_succeeded: runs that failed, still run, or were killed (see 21_troubled_runs.sql).
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT night, stage, count(*) AS n_runs, sum(n_cells) AS n_cells, round((sum(duration_s) / 60)::numeric, 1) AS minutes,
       round((sum(n_cells) / nullif(sum(duration_s) FILTER (WHERE n_cells IS NOT NULL), 0))::numeric, 1) AS cells_per_s,
       count(*) FILTER (WHERE state <> 'succeeded') AS not_succeeded, string_agg(DISTINCT host, ', ') AS hosts
FROM bloodcell.run_history
WHERE night >= :'since'::date
GROUP BY night, stage
ORDER BY night DESC, min(started_at), stage;
