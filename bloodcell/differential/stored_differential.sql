-- name: report
SELECT r.*, m.variant, m.created_at, m.confidence_threshold, m.novelty_threshold,
       m.manifest -> 'data' ->> 'dataset_digest' AS dataset_digest, m.manifest ->> 'code_version' AS model_code_version,
       u.code_version, (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = r.slide_id) AS n_cells_now
FROM bloodcell.slide_report r JOIN bloodcell.model m USING (model_id) JOIN bloodcell.run u USING (run_id)
WHERE r.slide_id = :slide_id AND r.model_id = :model_id

-- name: slides
-- The slide that has this barcode, or had it last; then the earlier ones, which were withdrawn.
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.analyser, s.patient_key, s.acquired_at, s.delivered_as,
       w.withdrawn_at, w.reason, w.requested_by, w.renamed_to
FROM bloodcell.slide s LEFT JOIN bloodcell.withdrawn_slide w USING (slide_id)
WHERE s.barcode = :barcode ORDER BY s.withdrawn_at DESC NULLS FIRST, s.slide_id DESC

-- name: reported_model
SELECT model_id FROM bloodcell.slide_last_reported_model WHERE slide_id = :slide_id

-- name: out_of_scope_codes
SELECT analyser_code, count(*) AS n FROM bloodcell.cell
WHERE slide_id = :slide_id AND bloodcell.is_out_of_scope(analyser_code, analyser_class)
GROUP BY analyser_code ORDER BY n DESC, analyser_code

-- name: n_cells
SELECT count(*) FROM bloodcell.cell WHERE slide_id = :slide_id
