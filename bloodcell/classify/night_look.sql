-- name: analysers
-- The analysers of these slides, and the nights in which the slides began.
SELECT DISTINCT night, analyser FROM bloodcell.slide WHERE slide_id = ANY (:slides) ORDER BY night, analyser

-- name: sample
-- Images of a night's slides of one analyser, at most so many: those with the lowest digests, which is a random part.
SELECT DISTINCT c.sha256
FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
WHERE s.night = :night AND s.analyser IS NOT DISTINCT FROM :analyser AND s.withdrawn_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM bloodcell.image i WHERE i.sha256 = c.sha256 AND i.removed_at IS NOT NULL)
ORDER BY c.sha256 LIMIT :n

-- name: newest_sample
-- The digest of the images that the newest comparison of an analyser's night with a model used.
SELECT figures ->> 'sample' FROM bloodcell.night_check
WHERE night = :night AND analyser IS NOT DISTINCT FROM :analyser AND model_id = :model_id ORDER BY check_id DESC LIMIT 1
