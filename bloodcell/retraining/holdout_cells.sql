-- name: origin
-- The patient is the one that the slide has now. Cells of a slide that was withdrawn since, or that turned out to be those
-- of a patient in another split, judge nothing; nor do labels of data sets from before schema 0011 that were no blind
-- readings of the random sample, and those that are no evidence any more. A cell out of scope trains no model, so those of
-- all patients judge, but the lockbox is for its own.
SELECT i.sha256, bloodcell.split_key(s.patient_key, s.barcode) AS split_key, c.slide_id, c.received_sha256,
       e.state IN ('confirmed', 'out_of_scope') AND e.class IS NOT DISTINCT FROM i.class AS is_evidence
FROM bloodcell.dataset_image i
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
LEFT JOIN LATERAL (SELECT * FROM bloodcell.evidence_label o WHERE o.cell_id = i.cell_id LIMIT 1) e ON true
LEFT JOIN bloodcell.data_split d ON d.split_key = bloodcell.split_key(s.patient_key, s.barcode)
WHERE i.dataset_digest = :digest AND i.split = :split
  AND CASE WHEN i.split = 'out_of_scope' THEN (coalesce(d.split, '') = 'lockbox') = (:judging = 'lockbox')
           ELSE coalesce(d.split, i.split) = i.split END

-- name: dataset
SELECT d.left_out, (SELECT l.recorded_at FROM bloodcell.label l WHERE l.label_id = d.until_label_id) AS labels_until
FROM bloodcell.dataset d WHERE d.dataset_digest = :digest

-- name: splits
SELECT split, count(DISTINCT split_key), count(*) FROM bloodcell.dataset_image WHERE dataset_digest = :digest
GROUP BY split ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'lockbox', 'out_of_scope'], split)

-- name: unread
-- Sampled cells of patients who judge that nobody has read blind: readers may leave out what is hard.
SELECT count(*) FROM bloodcell.sampled_cell n
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.standing_slide s USING (slide_id)
JOIN bloodcell.data_split d ON d.split_key = bloodcell.split_key(s.patient_key, s.barcode) AND d.split = :split
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.blind_label b WHERE b.cell_id = n.cell_id)

-- name: attempts
SELECT count(*) FROM bloodcell.holdout_attempt WHERE dataset_digest = :digest AND model_id <> ALL (:candidates)
