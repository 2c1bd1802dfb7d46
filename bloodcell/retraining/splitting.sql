-- name: counts
-- Patients of each split.
SELECT split, count(*) FROM bloodcell.data_split GROUP BY split

-- name: unassigned
-- Patients who have a label but no split, and whether one of their labels may judge a model.
SELECT l.split_key, bool_or(e.cell_id IS NOT NULL) AS may_judge
FROM bloodcell.current_label l LEFT JOIN bloodcell.evidence_label e USING (cell_id)
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.data_split d WHERE d.split_key = l.split_key)
GROUP BY l.split_key
