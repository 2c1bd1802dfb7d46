-- name: report
SELECT r.*, m.variant, m.created_at, m.confidence_threshold, m.novelty_threshold,
       m.manifest -> 'data' ->> 'dataset_digest' AS dataset_digest, m.manifest ->> 'code_version' AS model_code_version,
       u.code_version, (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = r.slide_id) AS n_cells_now
FROM bloodcell.slide_report r JOIN bloodcell.model m USING (model_id) JOIN bloodcell.run u USING (run_id)
WHERE r.slide_id = :slide_id AND r.model_id = :model_id

-- name: reported_model
SELECT model_id FROM bloodcell.slide_reported_model WHERE slide_id = :slide_id

-- name: out_of_scope_codes
SELECT analyser_code, count(*) AS n FROM bloodcell.cell
WHERE slide_id = :slide_id AND bloodcell.is_out_of_scope(analyser_code, analyser_class)
GROUP BY analyser_code ORDER BY n DESC, analyser_code

-- name: n_cells
SELECT count(*) FROM bloodcell.cell WHERE slide_id = :slide_id
