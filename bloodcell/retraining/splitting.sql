-- name: counts
-- Patients of each split; of those who judge, only patients with cells in a random sample, because others judge nothing.
SELECT split, count(*) FROM bloodcell.data_split d
WHERE split NOT IN ('holdout', 'lockbox') OR EXISTS (
    SELECT 1 FROM bloodcell.sampled_cell n JOIN bloodcell.cell c USING (cell_id)
    JOIN bloodcell.standing_slide s USING (slide_id)
    WHERE bloodcell.split_key(s.patient_key, s.barcode) = d.split_key)
GROUP BY split

-- name: unassigned
-- Patients who have a label but no split, and whether they have cells in a random sample, read or not: whether a patient
-- judges must not depend on which cells were labelled first.
SELECT l.split_key, bool_or(n.split_key IS NOT NULL) AS may_judge
FROM bloodcell.current_label l
LEFT JOIN (
    SELECT DISTINCT bloodcell.split_key(s.patient_key, s.barcode) AS split_key
    FROM bloodcell.sampled_cell JOIN bloodcell.cell c USING (cell_id) JOIN bloodcell.standing_slide s USING (slide_id)
) n ON n.split_key = l.split_key
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.data_split d WHERE d.split_key = l.split_key)
GROUP BY l.split_key
