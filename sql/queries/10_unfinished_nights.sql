-- Nights that are not finished: still arriving, not classified, or with slides that are not reported.
--
-- Who asks: the operator in the morning; a monitoring system (no rows is good).
-- Set: since (first night, default 30 days ago), hours (that a night may take, default 12)
-- Read: arriving: the folder still changes, or ingest did not finish. no classify run: no cell has been called yet.
--   slides waiting: n_waiting slides have cells that their report does not count. late t: first seen longer ago than the
--   given hours. last_run: the last run of the night, and how it ended.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif
\if :{?hours}
\else
\set hours 12
\endif

WITH slides AS (
    SELECT night, count(*) FILTER (WHERE status IN ('waiting', 'cells came later')) AS n_waiting
    FROM bloodcell.slide_status WHERE night >= :'since'::date GROUP BY night
), runs AS (
    SELECT night, bool_or(stage = 'classify' AND state = 'succeeded') AS is_classified,
           (array_agg(stage || ' ' || state ORDER BY started_at DESC))[1] AS last_run
    FROM bloodcell.run_history WHERE night >= :'since'::date GROUP BY night
), judged AS (
    SELECT n.night, n.first_seen_at, n.n_slides, n.n_cells, coalesce(s.n_waiting, 0) AS n_waiting, r.last_run,
           CASE WHEN n.completed_at IS NULL THEN 'arriving'
                WHEN n.n_cells > 0 AND s.n_waiting > 0 AND r.is_classified IS NOT TRUE THEN 'no classify run'
                WHEN s.n_waiting > 0 THEN 'slides waiting' END AS what
    FROM bloodcell.night_summary n LEFT JOIN slides s USING (night) LEFT JOIN runs r USING (night)
    WHERE n.night >= :'since'::date
)
SELECT night, what, n_slides, n_waiting, n_cells, last_run, first_seen_at,
       now() - first_seen_at > make_interval(hours => :hours) AS late
FROM judged
WHERE what IS NOT NULL
ORDER BY night;
