-- name: slides
-- Every slide that has or had this barcode, the oldest first.
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, s.record_state, s.delivered_as,
       s.age_months, s.sex, s.wbc_10e9_per_l, s.wbc_is_corrected, s.withdrawn_at, w.reason, w.requested_by, w.renamed_to,
       (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = s.slide_id) AS n_cells
FROM bloodcell.slide s LEFT JOIN bloodcell.withdrawn_slide w USING (slide_id)
WHERE s.barcode = :barcode ORDER BY s.slide_id
