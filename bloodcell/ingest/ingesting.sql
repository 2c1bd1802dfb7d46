-- name: files
SELECT outcome, count(*) FROM bloodcell.drop_file WHERE night = :night GROUP BY outcome

-- name: n_slides
SELECT count(*) FROM bloodcell.standing_slide WHERE night = :night

-- name: may_have_lost_images
SELECT bloodcell.may_have_lost_images(started_at) FROM bloodcell.run WHERE run_id = :run_id

-- name: keep_again
-- Images that had been removed because of their age and that this night has brought, and stored, again.
UPDATE bloodcell.image SET removed_at = NULL WHERE sha256 = ANY (:images) AND removed_at IS NOT NULL RETURNING sha256

-- name: draw_sample
SELECT bloodcell.draw_sample(:night, :n, :run_id)
