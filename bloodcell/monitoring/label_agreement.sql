-- name: compare
-- One statement sees one state of the rows: the cells that it counts are those that it records as counted. If there are too
-- few cells, they stay for the next check.
WITH fresh AS MATERIALIZED (
    SELECT l.cell_id, l.label_id, l.class, k.called_class,
           (c.sha256 IN (SELECT unnest(CAST(:images AS text[])))
            OR coalesce(c.received_sha256, c.sha256) IN (SELECT unnest(CAST(:images AS text[])))
            OR EXISTS (SELECT 1 FROM bloodcell.dataset_image i WHERE i.dataset_digest = :dataset
                       AND i.sha256 = c.sha256 AND i.split IN ('training', 'validation'))) AS is_training
    FROM bloodcell.evidence_label l
    JOIN bloodcell.cell c USING (cell_id)
    JOIN bloodcell.cell_call k ON k.night = c.night AND k.cell_id = c.cell_id AND k.model_id = :model
    WHERE l.state <> 'contested'
      AND NOT EXISTS (SELECT 1 FROM bloodcell.checked_cell x WHERE x.model_id = :model AND x.cell_id = l.cell_id)
), kept AS (
    INSERT INTO bloodcell.checked_cell
        (model_id, cell_id, label_id, class, called_class, is_blind, is_training, run_id)
    SELECT :model, cell_id, label_id, class, called_class, true, is_training, :run_id FROM fresh
    WHERE (SELECT count(*) FROM fresh
           WHERE class IS NOT NULL AND called_class <> 'unclassified' AND NOT is_training) >= :min_cells
)
SELECT count(*) FILTER (WHERE class IS NOT NULL AND called_class <> 'unclassified' AND NOT is_training) AS n_called,
       count(*) FILTER (WHERE is_training) AS n_training
FROM fresh

-- name: recent
-- The newest compared cells, with the class that they have now and the patient whose slide each is on; all that are new.
SELECT e.class, x.called_class, e.split_key, x.run_id = :run_id AS is_new
FROM bloodcell.checked_cell x
CROSS JOIN LATERAL (SELECT * FROM bloodcell.evidence_label o WHERE o.cell_id = x.cell_id LIMIT 1) e
WHERE x.model_id = :model AND NOT x.is_training AND e.state <> 'contested'
ORDER BY x.run_id = :run_id DESC, x.label_id DESC
LIMIT greatest(:n, (SELECT count(*) FROM bloodcell.checked_cell WHERE run_id = :run_id))
