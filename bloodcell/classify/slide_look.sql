-- name: samples
-- Images of each of these slides, at most so many: those with the lowest digests, which is a random part of the slide.
SELECT c.slide_id, min(c.cell_id) AS cell_id, (array_agg(DISTINCT c.sha256 ORDER BY c.sha256))[1:CAST(:n AS integer)] AS images
FROM bloodcell.cell c JOIN bloodcell.image i USING (sha256)
WHERE c.slide_id = ANY (:slides) AND i.removed_at IS NULL
GROUP BY c.slide_id ORDER BY c.slide_id

-- name: compared
-- The images that were compared, as a digest, of each of these slides with each of these models.
SELECT c.slide_id, k.model_id, k.figures ->> 'sample' AS sample
FROM bloodcell.look_check k JOIN bloodcell.cell c USING (cell_id)
WHERE c.slide_id = ANY (:slides) AND k.model_id = ANY (:models)
