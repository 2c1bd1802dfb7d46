-- name: work_left
-- A cell has work left until all of the models have called it.
SELECT c.slide_id, count(*)
FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
WHERE (CAST(:night AS date) IS NULL
       OR EXISTS (SELECT 1 FROM bloodcell.cell n WHERE n.slide_id = c.slide_id AND n.night = :night))
  AND (cardinality(CAST(:slides AS text[])) = 0 OR s.barcode = ANY (:slides))
  AND (:redo OR (SELECT count(*) FROM bloodcell.cell_call k
                 WHERE k.cell_id = c.cell_id AND k.night = c.night AND k.model_id = ANY (:models))
                < cardinality(CAST(:models AS text[])))
GROUP BY c.slide_id ORDER BY c.slide_id
