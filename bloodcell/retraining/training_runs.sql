-- name: new_labels
-- Cells labelled, or labelled again, since the data set of the last retraining that did not fail.
SELECT count(DISTINCT cell_id)
FROM bloodcell.label JOIN bloodcell.cell USING (cell_id) JOIN bloodcell.standing_slide USING (slide_id)
WHERE label_id > coalesce((SELECT max(d.until_label_id)
                           FROM bloodcell.dataset d JOIN bloodcell.training_run t USING (dataset_digest)
                           WHERE t.state <> :failed), 0)

-- name: of_airflow_run
SELECT training_run_id FROM bloodcell.training_run WHERE airflow_run = :airflow_run ORDER BY requested_at DESC LIMIT 1
