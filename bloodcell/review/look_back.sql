-- Only views: the role of the desk may read nothing else.

-- name: slide
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.analyser, s.patient_key, s.acquired_at, s.n_cells, s.delivered_as,
       s.withdrawn_at, s.withdrawn_reason, s.renamed_to
FROM bloodcell.slide_status s WHERE s.slide_id = :slide_id

-- name: versions
-- The oldest first; with the session in which a version was signed.
SELECT v.version, v.state, v.made_at, v.signed_by, v.reason, v.why, v.withheld_for, v.review_for, v.n_cells, v.n_leucocytes,
       v.n_unclassified, v.n_labelled, v.variant, v.model_id, v.digest, v.in_force_from, v.in_force_until, v.is_in_force
FROM bloodcell.result_version v
WHERE v.slide_id = :slide_id ORDER BY v.version

-- name: actions
-- Everything that happened to the slide, the newest first.
SELECT a.at, a.person, a.action, a.cell_id, a.file_name, a.label, a.text, a.session_id, a.version, h.method,
       h.opened_at AS session_opened_at
FROM bloodcell.slide_action a LEFT JOIN bloodcell.desk_session_history h USING (session_id)
WHERE a.slide_id = :slide_id
UNION ALL
SELECT w.recorded_at, w.requested_by, w.action, NULL, w.renamed_to, NULL, w.reason, NULL, NULL, NULL, NULL
FROM bloodcell.withdrawal_history w WHERE w.slide_id = :slide_id
ORDER BY at DESC, version DESC NULLS LAST

-- name: cells
-- Cells that a person has labelled or commented on, and any other that is asked for.
SELECT c.cell_id, c.file_name, c.analyser_code, c.image_removed_at IS NULL AS has_image, k.called_class,
       k.unclassified_reason, k.resembles, k.top_class, k.confidence, coalesce(d.line, k.called_class) AS line
FROM bloodcell.slide_cell c
LEFT JOIN (SELECT * FROM bloodcell.cell_result WHERE slide_id = :slide_id AND is_reported) k USING (cell_id)
LEFT JOIN (SELECT * FROM bloodcell.decided_cell WHERE slide_id = :slide_id) d USING (cell_id)
WHERE c.slide_id = :slide_id AND c.cell_id = ANY (:cells)
ORDER BY c.cell_id

-- name: signature
-- In which session a version was signed, and how the person had logged in.
SELECT a.session_id, h.method, h.opened_at
FROM bloodcell.slide_action a LEFT JOIN bloodcell.desk_session_history h USING (session_id)
WHERE a.slide_id = :slide_id AND a.version = :version AND a.action = 'signed'

-- name: comments
-- What was said of the slide as a whole until a version was made.
SELECT person, written_at, text FROM bloodcell.comment_history
WHERE slide_id = :slide_id AND cell_id IS NULL AND written_at <= :until ORDER BY comment_id
