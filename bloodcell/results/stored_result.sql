-- Only views: a person's login may read nothing else.

-- name: versions
SELECT v.version, v.state, v.made_at, v.signed_by, v.reason, v.why, v.withheld_for, v.review_for, v.digest, v.in_force_from,
       v.in_force_until, v.report_id
FROM bloodcell.result_version v WHERE v.slide_id = :slide_id ORDER BY v.version

-- name: newest_counts
SELECT model_id, report_id FROM bloodcell.newest_count WHERE slide_id = :slide_id AND starts_with(model_id, :model_id)

-- name: count
SELECT r.*, m.variant, m.title, m.created_at, m.confidence_threshold, m.novelty_threshold, m.dataset_digest,
       m.code_version AS model_code_version, u.code_version, l.document,
       (SELECT s.n_cells FROM bloodcell.slide_status s WHERE s.slide_id = r.slide_id) AS n_cells_now,
       (SELECT p.n_cells FROM bloodcell.newest_version v JOIN bloodcell.count_history p USING (report_id)
        WHERE v.slide_id = r.slide_id) AS n_cells_newest
FROM bloodcell.count_history r JOIN bloodcell.registered_model m USING (model_id) JOIN bloodcell.run_history u USING (run_id)
LEFT JOIN bloodcell.rules_history l USING (rules_digest)
WHERE r.report_id = :report_id

-- name: lines
SELECT class, n_cells, n_labelled, n_unverified, flag FROM bloodcell.count_line WHERE report_id = :report_id

-- name: slides
-- The slide that has this barcode, or had it last; then the earlier ones, which were withdrawn.
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.analyser, s.patient_key, s.acquired_at, s.delivered_as,
       w.withdrawn_at, w.reason, w.requested_by, w.renamed_to,
       coalesce((SELECT h.action = 'restore' FROM bloodcell.withdrawal_history h
                 WHERE h.slide_id = s.slide_id AND h.recorded_at <= CAST(:as_of AS timestamptz)
                 ORDER BY h.withdrawal_id DESC LIMIT 1), true)
       AND EXISTS (SELECT 1 FROM bloodcell.result_version v
                   WHERE v.slide_id = s.slide_id AND v.made_at <= CAST(:as_of AS timestamptz)) AS stood_with_result
FROM bloodcell.slide_status s LEFT JOIN bloodcell.withdrawn_slide w USING (slide_id)
WHERE s.barcode = :barcode ORDER BY s.withdrawn_at DESC NULLS FIRST, s.slide_id DESC

-- name: n_cells
SELECT n_cells FROM bloodcell.slide_status WHERE slide_id = :slide_id
