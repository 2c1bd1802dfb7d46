-- name: origin
-- The patient is the one that the slide has now. Cells of a slide that was withdrawn since, or that turned out to be those
-- of a patient in another split, are no hold-out.
SELECT i.sha256, bloodcell.split_key(s.patient_key, s.barcode) AS split_key, c.slide_id, c.received_sha256
FROM bloodcell.dataset_image i
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
LEFT JOIN bloodcell.data_split d ON d.split_key = bloodcell.split_key(s.patient_key, s.barcode)
WHERE i.dataset_digest = :digest AND i.split = 'holdout' AND coalesce(d.split, 'holdout') = 'holdout'

-- name: dataset
SELECT d.left_out, (SELECT l.recorded_at FROM bloodcell.label l WHERE l.label_id = d.until_label_id) AS labels_until
FROM bloodcell.dataset d WHERE d.dataset_digest = :digest

-- name: splits
SELECT split, count(DISTINCT split_key), count(*) FROM bloodcell.dataset_image WHERE dataset_digest = :digest
GROUP BY split ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'out_of_scope'], split)
