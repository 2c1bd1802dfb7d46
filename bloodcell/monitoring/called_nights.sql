-- name: nights
SELECT night FROM bloodcell."drop" d
WHERE night > coalesce((SELECT max(until_night) FROM bloodcell.model_check WHERE model_id = :model),
                       (SELECT max(night) FROM bloodcell."drop" WHERE night <= current_date + 1) - :first)
  AND EXISTS (SELECT 1 FROM bloodcell.cell_call k WHERE k.night = d.night AND k.model_id = :model)
ORDER BY night

-- name: class_mix
SELECT c.slide_id % :slide_buckets, k.top_class, count(*)
FROM bloodcell.cell_call k JOIN bloodcell.cell c USING (cell_id, night)
WHERE k.model_id = :model AND k.night = ANY (:nights)
GROUP BY 1, 2

-- name: tally
SELECT c.slide_id % :slide_buckets,
       width_bucket(CASE :value WHEN 'confidence' THEN k.confidence ELSE k.novelty END::float8, CAST(:edges AS float8[])),
       count(*)
FROM bloodcell.cell_call k JOIN bloodcell.cell c USING (cell_id, night)
WHERE k.model_id = :model AND k.night = ANY (:nights) AND k.top_class = ANY (:classes)
GROUP BY 1, 2

-- name: sample
-- Takes the cell with the lowest digest of each night in turn, then the next. A digest is as good as a random number, and
-- the same on every machine.
SELECT cell_id, night, sha256, slide_id % :slide_buckets FROM (
    SELECT c.cell_id, c.night, c.sha256, c.slide_id,
           row_number() OVER (PARTITION BY c.night ORDER BY c.sha256, c.cell_id) AS position
    FROM bloodcell.cell_call k JOIN bloodcell.cell c USING (cell_id, night)
    WHERE k.model_id = :model AND k.night = ANY (:nights)
) s WHERE position <= :n ORDER BY position, night LIMIT :n
