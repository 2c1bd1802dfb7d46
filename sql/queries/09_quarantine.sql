-- Files set aside, by night and reason, with one of each to look at.
--
-- Who asks: the operator; the analyser's service engineer.
-- Set: since (first night, default 30 days ago)
-- Read: the files lie untouched in the night's folder. example and detail: one of them and what is wrong with it. A file
--   that was mended is read again by the next run and leaves this list.
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
