-- name: nights
SELECT night, completed_at, n_slides, n_slides_reported, n_slides_withheld, n_slides_signed, n_slides_differing,
       n_slides_differing_withheld, n_slides_withdrawn, n_quarantined
FROM bloodcell.night_summary ORDER BY night DESC LIMIT :most

-- name: newest_night
SELECT max(night) FROM bloodcell.standing_slide

-- name: slides
-- Slides, the most urgent first: withheld, then those that a review rule or a sure flag names, then the rest; signed ones
-- last. Within each, blasts first, and then the share of unclassified cells. State and version are those that count; why a
-- person should look, and the figures, are of the newest version, which may wait for a signature.
SELECT s.barcode, s.night, s.status, s.version, s.state, r.newest_state, r.withheld_for, r.review_for, s.newest_version,
       s.n_cells, s.n_out_of_scope, s.reported_at, r.n_blasts, r.n_leucocytes, r.n_unclassified,
       coalesce(f.flags, '{}') AS flags, r.signed_by, s.slide_id, s.analyser
FROM bloodcell.slide_status s
LEFT JOIN LATERAL (
    SELECT v.report_id, v.state AS newest_state, v.withheld_for, v.review_for, p.n_blasts, p.n_leucocytes, p.n_unclassified,
           (SELECT f.signed_by FROM bloodcell.result_in_force f WHERE f.slide_id = s.slide_id) AS signed_by
    FROM bloodcell.newest_version v JOIN bloodcell.count_history p USING (report_id)
    WHERE v.slide_id = s.slide_id LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(d.class, d.flag) AS flags FROM bloodcell.count_line d
    WHERE d.report_id = r.report_id AND d.flag IN ('low', 'high')
) f ON true
WHERE s.withdrawn_at IS NULL
  AND (CAST(:night AS date) IS NULL OR s.night = :night)
  AND (CAST(:since AS date) IS NULL OR s.night >= :since)
  AND (CAST(:state AS text) IS NULL OR :state IN (s.state, r.newest_state))
ORDER BY r.newest_state IN ('final', 'amended', 'corrected') IS TRUE, r.newest_state = 'withheld' IS NOT TRUE,
         r.newest_state IS NOT NULL, cardinality(r.review_for) = 0 AND f.flags IS NULL, coalesce(r.n_blasts, 0) = 0,
         r.n_unclassified::float / nullif(r.n_leucocytes + r.n_unclassified, 0) DESC NULLS LAST, s.night DESC, s.barcode
LIMIT :most
