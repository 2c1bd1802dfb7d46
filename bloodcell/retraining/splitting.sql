-- name: counts
-- Patients of each split.
SELECT split, count(*) FROM bloodcell.data_split GROUP BY split

-- name: unassigned
-- Patients who have a label but no split, and whether any of their labels was read blind.
SELECT split_key, bool_or(is_blind) AS is_blind FROM bloodcell.current_label
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.data_split d WHERE d.split_key = current_label.split_key)
GROUP BY split_key
