-- name: files
SELECT outcome, count(*) FROM bloodcell.drop_file WHERE night = :night GROUP BY outcome

-- name: n_slides
SELECT count(*) FROM bloodcell.slide WHERE night = :night
