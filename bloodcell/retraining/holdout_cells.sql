-- name: origin
-- The patient is the one that the slide has now. Cells of a slide that was withdrawn since, or that turned out to be those
-- of a patient in another split, judge nothing; nor do labels of data sets from before schema 0011 that were no blind
-- readings of the random sample.
SELECT i.sha256, bloodcell.split_key(s.patient_key, s.barcode) AS split_key, c.slide_id, c.received_sha256,
       n.cell_id IS NOT NULL AND (l.is_blind OR l.is_adjudication) AS is_evidence
FROM bloodcell.dataset_image i
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
JOIN bloodcell.label l USING (label_id)
LEFT JOIN bloodcell.sampled_cell n ON n.cell_id = i.cell_id
LEFT JOIN bloodcell.data_split d ON d.split_key = bloodcell.split_key(s.patient_key, s.barcode)
WHERE i.dataset_digest = :digest AND i.split = :split AND (i.split = 'out_of_scope' OR coalesce(d.split, i.split) = i.split)

-- name: dataset
SELECT d.left_out, (SELECT l.recorded_at FROM bloodcell.label l WHERE l.label_id = d.until_label_id) AS labels_until
FROM bloodcell.dataset d WHERE d.dataset_digest = :digest

-- name: splits
SELECT split, count(DISTINCT split_key), count(*) FROM bloodcell.dataset_image WHERE dataset_digest = :digest
GROUP BY split ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'lockbox', 'out_of_scope'], split)

-- name: attempts
-- Other models that were validated on a hold-out with images of this one.
SELECT count(DISTINCT v.model_id) FROM bloodcell.validation v
WHERE v.model_id <> ALL (:candidates) AND EXISTS (
    SELECT 1 FROM bloodcell.dataset_image earlier JOIN bloodcell.dataset_image present USING (sha256, split)
    WHERE earlier.dataset_digest = v.dataset_digest AND present.dataset_digest = :digest AND split = 'holdout')
