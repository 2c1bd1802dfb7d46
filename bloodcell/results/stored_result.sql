-- name: versions
SELECT v.version, v.state, v.made_at, v.signed_by, v.reason, v.why, v.withheld_for, v.review_for, v.digest, v.in_force_from,
       v.in_force_until, v.report_id
FROM bloodcell.result_version v WHERE v.slide_id = :slide_id ORDER BY v.version

-- name: newest_count
SELECT report_id FROM bloodcell.newest_count WHERE slide_id = :slide_id AND model_id = :model_id

-- name: report
SELECT r.*, m.variant, m.created_at, m.confidence_threshold, m.novelty_threshold,
       m.manifest -> 'data' ->> 'dataset_digest' AS dataset_digest, m.manifest ->> 'code_version' AS model_code_version,
       u.code_version, l.document, (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = r.slide_id) AS n_cells_now,
       (SELECT p.n_cells FROM bloodcell.newest_version v JOIN bloodcell.slide_report p USING (report_id)
        WHERE v.slide_id = r.slide_id) AS n_cells_newest
FROM bloodcell.slide_report r JOIN bloodcell.model m USING (model_id) JOIN bloodcell.run u USING (run_id)
LEFT JOIN bloodcell.laboratory_rules l USING (rules_digest)
WHERE r.report_id = :report_id

-- name: slides
-- The slide that has this barcode, or had it last; then the earlier ones, which were withdrawn.
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.analyser, s.patient_key, s.acquired_at, s.delivered_as,
       w.withdrawn_at, w.reason, w.requested_by, w.renamed_to,
       coalesce((SELECT h.action = 'restore' FROM bloodcell.slide_withdrawal h
                 WHERE h.slide_id = s.slide_id AND h.recorded_at <= CAST(:as_of AS timestamptz)
                 ORDER BY h.withdrawal_id DESC LIMIT 1), true)
       AND EXISTS (SELECT 1 FROM bloodcell.result v
                   WHERE v.slide_id = s.slide_id AND v.made_at <= CAST(:as_of AS timestamptz)) AS stood_with_result
FROM bloodcell.slide s LEFT JOIN bloodcell.withdrawn_slide w USING (slide_id)
WHERE s.barcode = :barcode ORDER BY s.withdrawn_at DESC NULLS FIRST, s.slide_id DESC

-- name: n_cells
SELECT count(*) FROM bloodcell.cell WHERE slide_id = :slide_id
