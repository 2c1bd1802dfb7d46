-- Quarantined files, by night and reason, with one example of each.
--
-- Who asks: the operator; the analyser's service engineer.
-- Set: since (first night, default 30 days ago)
-- Read: the files remain untouched in the night's folder. example and detail: one of them and what is wrong with it. A
--   file that has been repaired is read by the next run and leaves this list.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT night, reason, count(*) AS n_files, count(DISTINCT barcode) AS n_slides, min(path) AS example,
       (array_agg(detail ORDER BY path))[1] AS detail
FROM bloodcell.quarantine_report
WHERE night >= :'since'::date
GROUP BY night, reason
ORDER BY night DESC, n_files DESC, reason;
