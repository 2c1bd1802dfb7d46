-- name: newest_dataset
SELECT dataset_digest, until_label_id FROM bloodcell.dataset ORDER BY until_label_id DESC, created_at DESC LIMIT 1

-- name: cells
SELECT state, class, sub_label, count(*) AS n_cells, count(*) FILTER (WHERE label_id > :until) AS n_new
FROM bloodcell.current_label GROUP BY state, class, sub_label ORDER BY state, class, sub_label NULLS FIRST

-- name: splits
SELECT d.split, count(DISTINCT c.split_key) AS n_patients, count(*) AS n_cells
FROM bloodcell.current_label c LEFT JOIN bloodcell.data_split d USING (split_key)
GROUP BY d.split ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'lockbox'], d.split)

-- name: people
SELECT labelled_by, count(*), count(*) FILTER (WHERE is_blind), max(labelled_at)
FROM bloodcell.label GROUP BY labelled_by ORDER BY count(*) DESC, labelled_by

-- name: sample
SELECT count(*) AS n_drawn, count(e.cell_id) AS n_read,
       (SELECT count(*) FROM bloodcell.blind_reading) AS n_waiting,
       count(*) FILTER (WHERE e.state = 'contested') AS n_contested
FROM bloodcell.sampled_cell n LEFT JOIN bloodcell.evidence_label e USING (cell_id)
