-- name: earlier_outcome
-- is_ingested_since: whether an ingest has ended since the start of the import, which may have missed what it brought.
SELECT f.path, f.outcome, f.reason, f.n_rows, f.n_labels, r.airflow_run,
       EXISTS (SELECT 1 FROM bloodcell.run i WHERE i.stage = 'ingest' AND i.ended_at >= r.started_at) AS is_ingested_since
FROM bloodcell.label_file f JOIN bloodcell.run r USING (run_id)
WHERE f.path = :path AND f.sha256 = :sha256 ORDER BY f.seen_at DESC LIMIT 1
