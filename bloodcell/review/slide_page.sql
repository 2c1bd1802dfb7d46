-- Only views: the role of the desk may read nothing else.

-- name: slide
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.analyser, s.patient_key, s.acquired_at, s.n_cells
FROM bloodcell.slide_status s WHERE s.slide_id = :slide_id AND s.withdrawn_at IS NULL

-- name: cells
-- The cells with the calls of the model that the newest version counts; a cell that came later has no call yet.
SELECT c.cell_id, c.file_name, c.sha256, c.analyser_code, c.analyser_class, c.image_removed_at IS NULL AS has_image,
       coalesce(k.called_class, 'unclassified') AS called_class, k.unclassified_reason, k.resembles, k.confidence, k.novelty,
       k.p_basophil, k.p_eosinophil, k.p_erythroblast, k.p_ig, k.p_lymphocyte, k.p_monocyte, k.p_neutrophil, k.p_platelet,
       coalesce(d.line, k.called_class, 'unclassified') AS line, coalesce(d.is_labelled, false) AS is_labelled,
       n.seen, coalesce(m.n_comments, 0) AS n_comments
FROM bloodcell.slide_cell c
-- LATERAL ... LIMIT 1 looks each cell up; where the planner expects fewer cells than a slide has, a join took 20 s for 2,000
LEFT JOIN LATERAL (
    SELECT * FROM bloodcell.cell_result r
    WHERE r.cell_id = c.cell_id AND r.night = c.night AND r.model_id = :model_id LIMIT 1
) k ON true
LEFT JOIN LATERAL (SELECT * FROM bloodcell.decided_cell o WHERE o.cell_id = c.cell_id LIMIT 1) d ON true
LEFT JOIN LATERAL (
    SELECT max(l.label_id) AS seen FROM bloodcell.cell_label l WHERE l.cell_id = c.cell_id
) n ON true
LEFT JOIN (
    SELECT h.cell_id, count(*) AS n_comments FROM bloodcell.comment_history h WHERE h.slide_id = :slide_id GROUP BY h.cell_id
) m ON m.cell_id = c.cell_id
WHERE c.slide_id = :slide_id AND (CAST(:cells AS bigint[]) IS NULL OR c.cell_id = ANY (:cells))
ORDER BY c.cell_id

-- name: labels
SELECT l.cell_id, l.labelled_by, l.label, l.labelled_at, l.is_blind
FROM bloodcell.slide_cell c JOIN bloodcell.standing_label l USING (cell_id)
WHERE c.slide_id = :slide_id AND (CAST(:cells AS bigint[]) IS NULL OR c.cell_id = ANY (:cells))
ORDER BY l.labelled_at

-- name: for_second_reader
SELECT cell_id FROM bloodcell.cells_for_second_reader(:slide_id, :rules_digest)

-- name: comments
SELECT cell_id, person, written_at, text FROM bloodcell.comment_history WHERE slide_id = :slide_id ORDER BY comment_id

-- name: lease
SELECT person, held_until FROM bloodcell.slide_lease_now WHERE slide_id = :slide_id

-- name: images
-- In the order in which cells came, so that late cells change only the last sprite. Empty: removed because of its age.
SELECT cell_id, CASE WHEN image_removed_at IS NULL THEN sha256 ELSE '' END AS sha256
FROM bloodcell.slide_cell WHERE slide_id = :slide_id AND withdrawn_at IS NULL ORDER BY cell_id
