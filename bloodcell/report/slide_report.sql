-- name: called_cells
-- Labels are those of now.
SELECT c.cell_id, c.file_name, c.sha256, c.analyser_code, c.analyser_class, k.called_class, k.unclassified_reason, k.confidence,
       coalesce(d.line, k.called_class) AS line,
       (SELECT string_agg(l.label || ' (' || l.labelled_by || ')', ', ' ORDER BY l.labelled_by)
        FROM bloodcell.standing_label l WHERE l.cell_id = c.cell_id) AS labels,
       k.novelty, k.p_basophil, k.p_eosinophil, k.p_erythroblast, k.p_ig, k.p_lymphocyte, k.p_monocyte, k.p_neutrophil,
       k.p_platelet, i.removed_at IS NULL AS has_image
FROM bloodcell.cell c JOIN bloodcell.cell_call k USING (cell_id, night) JOIN bloodcell.image i USING (sha256)
LEFT JOIN (SELECT * FROM bloodcell.decided_cell WHERE slide_id = :slide_id) d USING (cell_id)
WHERE c.slide_id = :slide_id AND k.model_id = :model_id ORDER BY c.cell_id

-- name: n_duplicates
SELECT count(*) FROM bloodcell.drop_file WHERE barcode = :barcode AND outcome = 'duplicate'

-- name: runs
-- Without a differential, model_id and run_id are NULL, and only the runs that ingested the slide are found.
SELECT run_id, stage, started_at, host, code_version, airflow_run FROM bloodcell.run
WHERE run_id IN (
    SELECT run_id FROM bloodcell.slide WHERE slide_id = :slide_id
    UNION SELECT run_id FROM bloodcell.cell WHERE slide_id = :slide_id
    UNION SELECT k.run_id FROM bloodcell.cell_call k JOIN bloodcell.cell c USING (cell_id, night)
          WHERE c.slide_id = :slide_id AND k.model_id = :model_id
    UNION SELECT CAST(:run_id AS uuid)
) ORDER BY started_at, stage
