-- name: rounds
SELECT round, due, is_open, n_cells, n_targets FROM bloodcell.external_round
ORDER BY due DESC, round LIMIT CAST(:most AS integer)

-- name: readers
-- How many cells each person has read.
SELECT round, min(person) AS person, count(*) AS n FROM bloodcell.external_reading
WHERE round = ANY (:names) GROUP BY round, lower(person) ORDER BY round, lower(person)

-- name: scores
-- People first, then models.
SELECT round, reader, model_id, n_cells, n_answered, n_agreed FROM bloodcell.external_score
WHERE round = ANY (:names) ORDER BY round, model_id NULLS FIRST, reader

-- name: cells
SELECT cell_id, barcode, file_name, target FROM bloodcell.external_cell WHERE round = :name
