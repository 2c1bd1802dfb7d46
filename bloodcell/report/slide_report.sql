-- Only views: a person's login may read nothing else.

-- name: called_cells
-- Labels are those of now.
SELECT r.cell_id, r.file_name, r.sha256, r.analyser_code, r.analyser_class, r.called_class, r.unclassified_reason,
       r.resembles, r.confidence, coalesce(d.line, r.called_class) AS line,
       (SELECT string_agg(l.label || ' (' || l.labelled_by || ')', ', ' ORDER BY l.labelled_by)
        FROM bloodcell.standing_label l WHERE l.cell_id = r.cell_id) AS labels,
       r.novelty, r.p_basophil, r.p_eosinophil, r.p_erythroblast, r.p_ig, r.p_lymphocyte, r.p_monocyte, r.p_neutrophil,
       r.p_platelet, p.image_removed_at IS NULL AS has_image
FROM bloodcell.cell_result r
JOIN (SELECT DISTINCT cell_id, image_removed_at FROM bloodcell.cell_provenance WHERE slide_id = :slide_id) p USING (cell_id)
LEFT JOIN (SELECT * FROM bloodcell.decided_cell WHERE slide_id = :slide_id) d USING (cell_id)
WHERE r.slide_id = :slide_id AND r.model_id = :model_id ORDER BY r.cell_id

-- name: n_duplicates
SELECT count(*) FROM bloodcell.file_account WHERE barcode = :barcode AND outcome = 'duplicate'

-- name: quarantined
SELECT night, path, reason, detail FROM bloodcell.quarantine_report WHERE barcode = :barcode ORDER BY night, path

-- name: runs
-- Without a differential, model_id and run_id are NULL, and only the runs that ingested the slide are found.
SELECT run_id, stage, started_at, host, code_version, airflow_run FROM bloodcell.run_history
WHERE run_id IN (
    SELECT run_id FROM bloodcell.slide_status WHERE slide_id = :slide_id
    UNION SELECT ingest_run_id FROM bloodcell.cell_provenance WHERE slide_id = :slide_id
    UNION SELECT run_id FROM bloodcell.cell_result WHERE slide_id = :slide_id AND model_id = :model_id
    UNION SELECT CAST(:run_id AS uuid)
) ORDER BY started_at, stage
