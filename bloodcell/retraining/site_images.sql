-- name: labelled
-- The images that a data set trains and validates with; the patient stands for the slides, which are alike.
SELECT sha256, class AS label, split_key FROM bloodcell.dataset_image
WHERE dataset_digest = :digest AND split IN ('training', 'validation')

-- name: codes
-- Cells out of scope of patients who judge no model. Cells of the random sample are left out, because they judge.
SELECT l.sha256, min(l.sub_label) AS label, min(l.split_key) AS split_key
FROM bloodcell.current_label l
JOIN bloodcell.data_split d USING (split_key)
JOIN bloodcell.image i USING (sha256)
WHERE d.split IN ('training', 'validation') AND l.state = 'out_of_scope' AND l.sub_label IS NOT NULL
  AND NOT l.is_code_contested AND i.removed_at IS NULL
  AND l.label_id <= (SELECT until_label_id FROM bloodcell.dataset WHERE dataset_digest = :digest)
  AND NOT EXISTS (SELECT FROM bloodcell.dataset_image o WHERE o.sha256 = l.sha256)
  AND NOT EXISTS (SELECT FROM bloodcell.sampled_cell n JOIN bloodcell.cell c USING (cell_id) WHERE c.sha256 = l.sha256)
  AND NOT EXISTS (SELECT FROM bloodcell.control_slide k JOIN bloodcell.cell c USING (slide_id) WHERE c.cell_id = l.cell_id)
GROUP BY l.sha256 HAVING count(DISTINCT l.sub_label) = 1

-- name: unlabelled
-- Other cells of the patients whose labels train. The first by digest are a random part, the same at every try.
SELECT c.sha256, NULL AS label, min(bloodcell.split_key(s.patient_key, s.barcode)) AS split_key
FROM bloodcell.cell c
JOIN bloodcell.standing_slide s USING (slide_id)
JOIN bloodcell.image i USING (sha256)
WHERE i.removed_at IS NULL
  AND bloodcell.split_key(s.patient_key, s.barcode) IN (
      SELECT split_key FROM bloodcell.dataset_image
      WHERE dataset_digest = :digest AND split IN ('training', 'validation'))
  AND NOT EXISTS (SELECT FROM bloodcell.standing_label l WHERE l.cell_id = c.cell_id)
  AND NOT EXISTS (SELECT FROM bloodcell.dataset_image o WHERE o.sha256 = c.sha256)
GROUP BY c.sha256 ORDER BY c.sha256 LIMIT :n
