-- name: work_left
-- Slides with cells that at least one of the models has not called, and the number of these cells; with redo, all cells
-- whose images are kept.
SELECT c.slide_id, count(*)
FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id)
WHERE (CAST(:night AS date) IS NULL
       OR EXISTS (SELECT 1 FROM bloodcell.cell n WHERE n.slide_id = c.slide_id AND n.night = :night))
  AND (cardinality(CAST(:slides AS text[])) = 0 OR s.barcode = ANY (:slides))
  AND (:redo OR (SELECT count(*) FROM bloodcell.cell_call k
                 WHERE k.cell_id = c.cell_id AND k.night = c.night AND k.model_id = ANY (:models))
                < cardinality(CAST(:models AS text[])))
  AND NOT EXISTS (SELECT 1 FROM bloodcell.image i WHERE i.sha256 = c.sha256 AND i.removed_at IS NOT NULL)
GROUP BY c.slide_id ORDER BY c.slide_id
