-- name: counts
SELECT split, count(*) FROM bloodcell.data_split GROUP BY split

-- name: new_patients
-- Patients with a label and without a split.
SELECT split_key, bool_or(is_blind) AS is_blind FROM bloodcell.current_label
WHERE NOT EXISTS (SELECT 1 FROM bloodcell.data_split d WHERE d.split_key = current_label.split_key)
GROUP BY split_key
