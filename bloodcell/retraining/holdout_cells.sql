-- name: origin
SELECT i.sha256, i.split_key, c.slide_id, c.received_sha256 FROM bloodcell.dataset_image i JOIN bloodcell.cell c USING (cell_id)
WHERE i.dataset_digest = :digest AND i.split = 'holdout'

-- name: dataset
SELECT d.left_out, (SELECT l.recorded_at FROM bloodcell.label l WHERE l.label_id = d.until_label_id) AS labels_until
FROM bloodcell.dataset d WHERE d.dataset_digest = :digest

-- name: splits
SELECT split, count(DISTINCT split_key), count(*) FROM bloodcell.dataset_image WHERE dataset_digest = :digest
GROUP BY split ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'out_of_scope'], split)
