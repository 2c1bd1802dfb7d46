-- name: newest_versions
-- The newest version of each slide's result, and the count that it reports.
SELECT v.slide_id, v.number, v.digest, v.made_at, v.signed_by, v.review_for, r.model_id, r.n_cells, r.n_leucocytes,
       r.n_unclassified, r.n_blasts, r.n_contested, r.n_labelled, r.calls_digest, r.labels_digest, r.rules_digest,
       r.age_months, r.sex, r.wbc_received, r.wbc_is_corrected, 'unlike_images' = ANY (v.withheld_for) AS is_unlike,
       'quality_control' = ANY (v.withheld_for) AS is_held
FROM bloodcell.newest_version v JOIN bloodcell.slide_report r USING (report_id)
WHERE v.slide_id = ANY (:slides)

-- name: reportable_counts
-- The count that each slide should report: of the models that have called all of its cells, the one promoted last. A model
-- that called the slide only before its promotion takes over when it calls the slide again, so an old slide keeps its
-- report when a challenger that called it is promoted.
SELECT DISTINCT ON (r.slide_id) r.*, coalesce(looked.is_unlike, false) AS is_unlike,
       EXISTS (SELECT FROM bloodcell.quality_hold h
               WHERE h.slide_id = r.slide_id AND (h.model_id IS NULL OR h.model_id = r.model_id)) AS is_held
FROM bloodcell.newest_count n
JOIN bloodcell.slide_report r USING (report_id)
JOIN LATERAL (
    SELECT p.promotion_id, p.promoted_at FROM bloodcell.promotion p WHERE p.model_id = r.model_id
    ORDER BY p.promotion_id DESC LIMIT 1
) promoted ON true
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.newest_version v JOIN bloodcell.slide_report o USING (report_id)
    WHERE v.slide_id = r.slide_id LIMIT 1
) present ON true
LEFT JOIN LATERAL (
    -- once found unlike, a slide stays so for the model: more images of another look do not clear it
    SELECT bool_or(NOT k.passed) AS is_unlike FROM bloodcell.cell c JOIN bloodcell.look_check k USING (cell_id)
    WHERE c.slide_id = r.slide_id AND k.model_id = r.model_id
) looked ON true
WHERE n.slide_id = ANY (:slides)
  AND r.n_cells = (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = r.slide_id)
  AND (present.model_id IS NULL OR present.model_id = r.model_id OR r.called_at > promoted.promoted_at)
ORDER BY r.slide_id, promoted.promotion_id DESC

-- name: leucocytes
-- Cells of each leucocyte line of these counts.
SELECT report_id, class, n_cells FROM bloodcell.count_line
WHERE report_id = ANY (:reports) AND percentage IS NOT NULL

-- name: last_signed
-- For each slide the last signed result of another slide of the same patient, made from an earlier or the same night, at
-- most some days before. Only views: also the login that signs asks this.
SELECT DISTINCT ON (s.slide_id) s.slide_id AS of_slide_id, o.barcode, v.number AS version, v.made_at, r.*
FROM bloodcell.standing_slide s
JOIN bloodcell.standing_slide o ON o.patient_key = s.patient_key AND o.slide_id <> s.slide_id
 AND o.night BETWEEN s.night - CAST(:days AS integer) AND s.night
JOIN bloodcell.result_in_force v ON v.slide_id = o.slide_id AND v.signed_by IS NOT NULL
JOIN bloodcell.count_history r ON r.report_id = v.report_id
WHERE s.slide_id = ANY (:slides)
ORDER BY s.slide_id, o.night DESC, v.made_at DESC

-- name: version
-- A version, and the rules that it was made with. Only views.
SELECT v.made_at, v.review_for, l.document, r.*
FROM bloodcell.result_version v
JOIN bloodcell.count_history r USING (report_id)
JOIN bloodcell.rules_history l ON l.rules_digest = r.rules_digest
WHERE v.barcode = :barcode AND v.version = :version AND v.withdrawn_at IS NULL
