-- Only views: the role of the desk may read nothing else.

-- name: image
SELECT c.sha256, c.image_removed_at FROM bloodcell.slide_cell c
WHERE c.cell_id = :cell_id AND c.slide_id = :slide_id AND c.withdrawn_at IS NULL

-- name: cell
SELECT c.width_px, c.height_px, k.p_basophil, k.p_eosinophil, k.p_erythroblast, k.p_ig, k.p_lymphocyte, k.p_monocyte,
       k.p_neutrophil, k.p_platelet, k.model_id
FROM bloodcell.slide_cell c
LEFT JOIN (SELECT * FROM bloodcell.cell_result WHERE cell_id = :cell_id AND is_reported) k USING (cell_id)
WHERE c.cell_id = :cell_id AND c.slide_id = :slide_id AND c.withdrawn_at IS NULL

-- name: history
SELECT labelled_by, label, recorded_at, is_blind, is_adjudication, is_retraction, note
FROM bloodcell.cell_label WHERE cell_id = :cell_id ORDER BY label_id

-- name: examples
-- The site's own confirmed cells of a class, the newest labels first; not of the slide that is looked at, and none that
-- waits for a blind reading or is of an external round, which nobody could read blind after seeing it here. Only the newest
-- labels are looked at: over all of 100,000 labels this took 11 s.
SELECT c.slide_id, c.cell_id
FROM (
    SELECT n.cell_id, max(n.label_id) AS label_id FROM (
        SELECT l.cell_id, l.label_id FROM bloodcell.cell_label l WHERE l.class = :line ORDER BY l.label_id DESC LIMIT 100
    ) n GROUP BY n.cell_id
) recent
CROSS JOIN LATERAL (
    SELECT o.state, o.class FROM bloodcell.current_label o WHERE o.cell_id = recent.cell_id LIMIT 1
) l
JOIN bloodcell.slide_cell c ON c.cell_id = recent.cell_id
WHERE l.state = 'confirmed' AND l.class = :line AND c.slide_id <> :slide_id AND c.image_removed_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM bloodcell.blind_reading b WHERE b.cell_id = recent.cell_id)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.control_slide_history h WHERE h.slide_id = c.slide_id)
ORDER BY recent.label_id DESC LIMIT :most
