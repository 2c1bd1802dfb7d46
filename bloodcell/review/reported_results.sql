-- Only views: the role of the desk may read nothing else.

-- name: moment
-- The moment that is meant; without an offset it is in the time zone of the database.
SELECT coalesce(CAST(CAST(:moment AS text) AS timestamptz), clock_timestamp()) AS moment

-- name: in_force
-- The rule is that of the view: in_force_from <= moment < in_force_until, unless the slide was withdrawn then. Without a
-- barcode only slides of the month before, so that few versions are read: 2,500 slides take 0.3 s.
SELECT v.slide_id, v.barcode, v.night, v.version, v.state, v.made_at, v.signed_by, v.in_force_from, v.in_force_until,
       v.is_in_force, v.withheld_for, v.review_for, v.n_cells, v.n_leucocytes, v.n_unclassified, v.nrbc_per_100_wbc,
       v.variant, v.model_id, v.digest, v.report_id, v.withdrawn_at
FROM bloodcell.result_version v
WHERE (CAST(:barcode AS text) = '' AND v.night >= CAST(CAST(:moment AS timestamptz) AS date) - 30
       OR CAST(:barcode AS text) <> '' AND starts_with(lower(v.barcode), lower(CAST(:barcode AS text))))
  AND v.in_force_from <= :moment AND (v.in_force_until > :moment OR v.in_force_until IS NULL)
  AND coalesce((SELECT h.action = 'restore' FROM bloodcell.withdrawal_history h
                WHERE h.slide_id = v.slide_id AND h.recorded_at <= :moment
                ORDER BY h.withdrawal_id DESC LIMIT 1), true)
ORDER BY v.barcode, v.slide_id

-- name: lines
SELECT report_id, class, n_cells, percentage FROM bloodcell.count_line WHERE report_id = ANY (:reports)
